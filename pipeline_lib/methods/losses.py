"""Equations 1 to 4 of [LC]: what the student learns from labels and from its teacher.

Every term is one value per sample (shape B), a mean over voxels and over the ROIs that the term selects in that
sample, and exactly zero, with zero gradient, where it selects none. The training divides the sum by the global batch,
so neither the number of processes nor gradient accumulation changes the result. Only the selected ROIs' maps are
ever computed with, in at least float32, whatever autocast says.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.methods import Method
from ..existence.decisions import Decisions
from ..networks.probabilities import at_least_float32, probabilities, sharpened_probabilities


def supervised_loss(logits: Tensor, targets: Tensor, labelled: Tensor, method: Method) -> Tensor:
    """Eq. 1: binary cross-entropy plus soft Dice loss of each labelled ROI, both over the whole patch volume.

    `logits` B K D H W, `targets` bool or uint8 B K D H W, `labelled` bool B K → B. The paper leaves the form open;
    this is DoDNet's and the Universal Model's, and `method.supervised` may choose one of the two. Targets of unlabelled
    ROIs are never read.
    """
    student = at_least_float32(_maps(logits, labelled))
    truth = _maps(targets, labelled).to(student.dtype)
    present = truth.any(1)
    cross_entropy = F.binary_cross_entropy_with_logits(student, truth, reduction="none").mean(1)
    cross_entropy = cross_entropy * torch.where(present, 1.0, method.absent_weight)
    dice = _dice_loss(probabilities(student), truth, labelled, method.dice)
    if method.supervised == "dice":
        cross_entropy = torch.zeros_like(cross_entropy)
    if method.supervised == "cross_entropy":
        dice = torch.zeros_like(dice)
    if method.dice == "present":
        seen = torch.zeros_like(labelled).masked_scatter(labelled, present)
        return _mean_over_rois(cross_entropy, labelled) + _mean_over_rois(dice[present], seen)
    return _mean_over_rois(cross_entropy + dice, labelled)


def latent_loss(student_logits: Tensor, teacher_logits: Tensor, decisions: Decisions, method: Method) -> Tensor:
    """Eq. 2: cross-entropy of the student against the teacher's sharpened output, on latent ROIs only.

    Both logits B K D H W → B. With `negative_target: zero` (not in the paper) negative latent ROIs learn absence.
    """
    if method.latent == "none":
        return _no_loss(student_logits)
    selected = decisions.latent
    student = at_least_float32(_maps(student_logits, selected))
    target = sharpened_probabilities(_maps(teacher_logits.detach(), selected), method.sharpening_temperature)
    if method.negative_target == "zero":
        target = target * decisions.positive[selected].to(target.dtype)[:, None]
    cross_entropy = F.binary_cross_entropy_with_logits(student, target.to(student.dtype), reduction="none").mean(1)
    return _mean_over_rois(cross_entropy, selected)


def consistency_loss(student_logits: Tensor, teacher_logits: Tensor, decisions: Decisions, method: Method) -> Tensor:
    """Eq. 3: mean squared error between the student's and the teacher's probabilities.

    On ambiguous ROIs, or with `consistency: all` (the mean-teacher row) on every ROI. Both logits B K D H W → B.
    """
    if method.consistency == "none":
        return _no_loss(student_logits)
    selected = decisions.ambiguous if method.consistency == "ambiguous" else torch.ones_like(decisions.labelled)
    student = probabilities(_maps(student_logits, selected))
    teacher = probabilities(_maps(teacher_logits.detach(), selected))
    return _mean_over_rois((student - teacher).square().mean(1), selected)


def total_loss(
    supervised: Tensor, latent: Tensor, consistency: Tensor, method: Method, teacher_weight: float
) -> Tensor:
    """Eq. 4: the weighted sum of the three terms (B each) → B; `teacher_weight` is the schedule's factor."""
    return (
        supervised
        + teacher_weight * method.latent_weight * latent
        + teacher_weight * method.consistency_weight * consistency
    )


def _dice_loss(predicted: Tensor, truth: Tensor, labelled: Tensor, form: str) -> Tensor:
    """1 − soft Dice of each row: N V, N V → N.

    With the smoothing in the denominator alone an absent ROI's loss is constant and has no gradient.
    """
    overlap = (predicted * truth).sum(1)
    size = predicted.sum(1) + truth.sum(1)
    if form == "batch":
        rois = labelled.nonzero()[:, 1]
        overlap, size = (
            torch.zeros(labelled.shape[1], dtype=each.dtype, device=each.device).index_add(0, rois, each)[rois]
            for each in (overlap, size)
        )
    in_numerator, in_denominator = {
        "published": (0.0, 1.0),
        "present": (0.0, 1.0),
        "smoothed": (1.0, 1.0),
        "smoothed_100": (100.0, 100.0),
        "batch": (1e-5, 1e-5),
    }[form]
    return 1 - (2 * overlap + in_numerator) / (size + in_denominator)


def _maps(maps: Tensor, selected: Tensor) -> Tensor:
    """The maps of the N selected (sample, ROI) pairs, each as one row: B K D H W and bool B K → N V."""
    return maps.flatten(0, 1).flatten(1).index_select(0, selected.flatten().nonzero().squeeze(1))


def _mean_over_rois(values: Tensor, selected: Tensor) -> Tensor:
    """Mean of `values` (one per selected pair, in order) over the ROIs of each sample → B; 0 where none is selected."""
    samples = selected.nonzero()[:, 0]
    totals = torch.zeros(len(selected), dtype=values.dtype, device=values.device).index_add(0, samples, values)
    return totals / selected.sum(1).clamp(min=1)


def _no_loss(logits: Tensor) -> Tensor:
    return torch.zeros(len(logits), device=logits.device)
