"""What one voxel cannot be: two organs. An optional mend of the teacher's output; not in the paper."""

from __future__ import annotations

import torch
from torch import Tensor

_CERTAIN = 1000.0
"""Logit of a label; large enough to stay certain after any sharpening, and finite."""


def exclusive_rois(structures: tuple[tuple[str, ...], ...]) -> Tensor:
    """Which ROIs cannot share a voxel, bool K K: those that have no structure in common.

    `structures` are those that decide each ROI's existence, so a tumour has its organ's and may overlap with it.
    """
    return torch.tensor([[not set(one) & set(other) for other in structures] for one in structures])


def exclusive_logits(logits: Tensor, labels: Tensor, labelled: Tensor, exclusive: Tensor) -> Tensor:
    """The teacher's `logits` B K D H W after the other organs have had their say.

    At a voxel that is labelled as another organ, or of which the teacher is surer that it is another, with probability
    p, a ROI keeps a probability of 1 − p at most: σ(−x) = 1 − σ(x). `labels` bool B K D H W, `labelled` bool B K,
    `exclusive` bool K K.
    """
    sure = torch.where(labels, _CERTAIN, -_CERTAIN).to(logits.dtype)
    known = torch.where(labelled[:, :, None, None, None], sure, logits)
    lowered = logits.clone()
    for roi, others in enumerate(exclusive):
        if others.any():
            own, rival = logits[:, roi], known[:, others].amax(1)
            lowered[:, roi] = torch.where(rival > own, torch.minimum(own, -rival), own)
    return lowered
