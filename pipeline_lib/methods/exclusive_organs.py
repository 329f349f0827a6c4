"""No voxel belongs to two organs: which ROIs are rivals, and a teacher's output that respects it. Not in the paper."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from .roi_maps import told_voxels

Structures = tuple[tuple[str, ...], ...]
"""For each of K ROIs, the structures that decide its existence."""

Rivals = tuple[tuple[int, ...], ...]
"""For each of K ROIs, the indices of those that cannot share a voxel with it."""

_CERTAIN = 1000.0
"""Logit of a label; large enough to stay certain after any sharpening, and finite."""


def exclusive_rois(structures: Structures) -> Rivals:
    """For each ROI, the indices of its rivals: those that cannot share a voxel with it.

    Two ROIs are rivals if they have no structure in common. `structures` are those that decide each ROI's existence,
    so a tumour has its organ's and may overlap with it.
    """
    return tuple(
        tuple(j for j, other in enumerate(structures) if j != k and not set(own) & set(other))
        for k, own in enumerate(structures)
    )


def exclusive_logits(
    logits: Tensor, labels: Tensor, labelled: Tensor, rivals: Rivals, known: Tensor | None = None
) -> Tensor:
    """The teacher's `logits` B K D H W after suppression by competing organs.

    At a voxel that is labelled as a rival (p = 1), or of which the teacher is more certain that it is a rival, with
    probability p, the probability of a ROI is lowered to 1 − p at most: σ(−x) = 1 − σ(x). Where its own label says that
    it is present, it is left alone. `labels` bool B K D H W, `labelled` bool B K; `rivals` are those of each ROI. With
    `known` (bool B K D H W) labels count at these voxels alone.
    """
    sure = torch.full_like(logits, -_CERTAIN).masked_fill_(labels, _CERTAIN)
    surest = torch.where(told_voxels(labelled, known), sure, logits)
    # ROIs of one organ have the same rivals.
    strongest = {others: reduce(torch.maximum, (surest[:, j] for j in others)) for others in set(rivals) if others}
    lowered = logits.clone()
    for roi, others in enumerate(rivals):
        if others:
            own, rival = logits[:, roi], strongest[others]
            lowered[:, roi] = torch.where(rival > surest[:, roi], torch.minimum(own, -rival), own)
    return lowered
