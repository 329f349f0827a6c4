"""What a teacher tells its student of unlabelled ROIs, and how much of it is true; no loss reads the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ..data.batches import Batch
from .exclusive_organs import Rivals
from .roi_maps import labelled_throughout, told_voxels

UNLABELLED = "unlabelled"
"""The one decision of a method that decides nothing about existence."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Where the teacher says that a ROI is, and what was decided about its existence.

    `masks` (bool B K D H W): where the student's target is at least 1/2, which sharpening does not change. `decisions`
    (bool B K each, by name) hold every ROI that labels leave open in a sample, in a part of its voxels or in all.
    """

    masks: Tensor
    decisions: Mapping[str, Tensor]

    @classmethod
    def of_unlabelled(cls, masks: Tensor, batch: Batch) -> Self:
        """Those of a method that decides nothing about existence."""
        return cls(masks, {UNLABELLED: ~labelled_throughout(batch.labelled, batch.known)})


@dataclass(frozen=True, eq=False)
class Counts:
    """Voxels of pseudo labels, int64 B K each, where labels leave a ROI open.

    `predicted`: the teacher says that the ROI is there; `true`: it is; `true_positives`: both; `in_rivals`: predicted,
    but an organ is there that excludes the ROI. `inside` B K K: predicted voxels of the first ROI that are not in it,
    but in the second.
    """

    predicted: Tensor
    true: Tensor
    true_positives: Tensor
    in_rivals: Tensor
    inside: Tensor


def counted(pseudo: PseudoLabels, truth: Tensor, batch: Batch, rivals: Rivals) -> Counts:
    """Compare the pseudo labels of `batch` with the `truth`, bool B K D H W; `rivals` are those of each ROI."""
    left_open = ~told_voxels(batch.labelled, batch.known)
    predicted, true = pseudo.masks & left_open, truth & left_open
    wrong = predicted & ~truth
    in_rivals = torch.zeros_like(batch.labelled, dtype=torch.int64)
    for roi, others in enumerate(rivals):
        if others:
            in_rivals[:, roi] = (wrong[:, roi] & truth[:, others].any(1)).flatten(1).sum(1)
    # Sums of ones are exact in float32 up to 2²⁴ voxels. One sample at a time: that takes four bytes a voxel.
    samples = zip(wrong.flatten(2), truth.flatten(2), strict=True)
    inside = torch.stack([of_wrong.float() @ of_truth.float().T for of_wrong, of_truth in samples])
    return Counts(_voxels(predicted), _voxels(true), _voxels(predicted & truth), in_rivals, inside.long())


def _voxels(mask: Tensor) -> Tensor:
    return mask.flatten(2).sum(2)
