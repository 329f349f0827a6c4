"""What the label of one organ says of the others: its voxels are not in them."""

from __future__ import annotations

import torch
from torch import Tensor

from .exclusive_organs import Rivals
from .roi_maps import told_voxels


def labelled_as_rival(
    labels: Tensor, labelled: Tensor, rivals: Rivals, known: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The voxels that are labelled as a rival of a ROI, and whether one of its rivals is labelled in the sample.

    `labels` bool B K D H W, `labelled` bool B K → bool B K D H W, bool B K. Labels of unlabelled ROIs are never read,
    nor, with `known` (bool B K D H W), those of voxels that are not known.
    """
    positives = labels.bool() & told_voxels(labelled, known)
    negatives, informed = torch.zeros_like(positives), torch.zeros_like(labelled)
    for roi, others in enumerate(rivals):
        if others:
            negatives[:, roi] = positives[:, others].any(1)
            informed[:, roi] = labelled[:, others].any(1)
    return negatives, informed
