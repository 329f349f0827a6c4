"""Equation 1 of [LC]: what the student learns from labels.

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.method_settings import SupervisedLoss
from ..networks.probabilities import at_least_float32, probabilities
from .dice_loss import dice_loss
from .roi_maps import mean_over_rois, mean_over_voxels, selected_maps


def supervised_loss(
    logits: Tensor, targets: Tensor, labelled: Tensor, settings: SupervisedLoss, known: Tensor | None = None
) -> Tensor:
    """Eq. 1: binary cross-entropy plus soft Dice loss of each labelled ROI, both over the whole patch, in float32.

    `logits` B K D H W, `targets` bool or uint8 B K D H W, `labelled` bool B K → B. The paper leaves the form open; this
    is DoDNet's and the Universal Model's. Targets of unlabelled ROIs are never read.

    The mean over the labelled ROIs of a sample stands for the paper's sum. A ROI that is labelled alone (colon cancer,
    lung tumour and spleen in MOTS) so weighs twice as much as one of two; in the paper's sum, and nearly so in DoDNet's
    means over the samples of a batch, every labelled ROI weighs the same.

    `known` (bool B K D H W) leaves voxels out, as an ignore label does: both terms are over the known voxels of a
    labelled ROI, and one without any counts as unlabelled.
    """
    if known is not None:
        labelled = labelled & known.flatten(2).any(2)
    student = at_least_float32(selected_maps(logits, labelled))
    truth = selected_maps(targets, labelled).to(student.dtype)
    where = None if known is None else selected_maps(known, labelled)
    if where is not None:
        truth = truth.where(where, 0)
    present = truth.any(1)
    values = student.new_zeros(len(student))
    if settings.cross_entropy:
        cross_entropy = mean_over_voxels(F.binary_cross_entropy_with_logits(student, truth, reduction="none"), where)
        values = values + cross_entropy * torch.where(present, 1.0, settings.absent_weight)
    if settings.dice is None:
        return mean_over_rois(values, labelled)
    predicted = probabilities(student)
    dice = dice_loss(predicted if where is None else predicted.where(where, 0), truth, labelled, settings.dice)
    if settings.dice == "present":
        counted = torch.zeros_like(labelled).masked_scatter(labelled, present)
        return mean_over_rois(values, labelled) + mean_over_rois(dice[present], counted)
    return mean_over_rois(values + dice, labelled)
