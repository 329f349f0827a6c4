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
from .roi_maps import mean_over_rois, selected_maps, sum_over_rois


def supervised_loss(logits: Tensor, targets: Tensor, labelled: Tensor, settings: SupervisedLoss) -> Tensor:
    """Eq. 1: binary cross-entropy plus soft Dice loss of each labelled ROI, both over the whole patch, in float32.

    `logits` B K D H W, `targets` bool or uint8 B K D H W, `labelled` bool B K → B. The paper leaves the form open; this
    is DoDNet's and the Universal Model's. Targets of unlabelled ROIs are never read.

    The mean over the labelled ROIs of a sample stands for the paper's sum (`over_rois: sum`). A ROI that is labelled
    alone (colon cancer, lung tumour and spleen in MOTS) so weighs twice as much as one of two; in the paper's sum, and
    nearly so in DoDNet's means over the samples of a batch, every labelled ROI weighs the same.
    """
    student = at_least_float32(selected_maps(logits, labelled))
    truth = selected_maps(targets, labelled).to(student.dtype)
    present = truth.any(1)
    values = student.new_zeros(len(student))
    if settings.cross_entropy:
        cross_entropy = F.binary_cross_entropy_with_logits(student, truth, reduction="none").mean(1)
        values = values + cross_entropy * torch.where(present, 1.0, settings.absent_weight)
    over_rois = mean_over_rois if settings.over_rois == "mean" else sum_over_rois
    if settings.dice is None:
        return over_rois(values, labelled)
    dice = dice_loss(probabilities(student), truth, labelled, settings.dice)
    if settings.dice == "present":
        counted = torch.zeros_like(labelled).masked_scatter(labelled, present)
        return over_rois(values, labelled) + over_rois(dice[present], counted)
    return over_rois(values + dice, labelled)
