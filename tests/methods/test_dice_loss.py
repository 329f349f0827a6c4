"""Eq. 1's Dice term by hand: value and gradient of every form, for a ROI that is in the patch and for one that is not.

With the soft Dice D = N / S, N = 2·Σpy + a and S = Σp + Σy + b, the loss is 1 − D. A probability p_v changes N by
2·y_v and S by 1, so the derivative of the loss by p_v is −(2·y_v·S − N) / S², and by the logit p_v·(1 − p_v) times it.
"""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from pipeline_lib.config.method_settings import DiceForm, SupervisedLoss
from pipeline_lib.methods.dice_loss import DICE_FORMS
from pipeline_lib.methods.supervised_loss import supervised_loss

SMOOTHING = {
    "published": (0.0, 1.0),
    "smoothed": (1.0, 1.0),
    "smoothed_100": (100.0, 100.0),
    "batch": (1e-5, 1e-5),
    "present": (0.0, 1.0),
}
"""Form → what the publications (or the experiment) add to the numerator and to the denominator."""

LOGITS = [math.log(p / (1 - p)) for p in (0.9, 0.6, 0.2, 0.3)]
PRESENT, ABSENT = [True, True, False, False], [False] * 4


def by_hand(truth: list[bool], numerator: float, denominator: float) -> tuple[float, list[float]]:
    """Value of the loss and its derivatives by the logits, written out for the probabilities 0.9, 0.6, 0.2 and 0.3."""
    probabilities = [0.9, 0.6, 0.2, 0.3]
    N = 2 * sum(p for p, y in zip(probabilities, truth, strict=True) if y) + numerator
    S = sum(probabilities) + sum(truth) + denominator
    slopes = [-(2 * y * S - N) / S**2 * p * (1 - p) for p, y in zip(probabilities, truth, strict=True)]
    return 1 - N / S, slopes


def loss_and_gradient(truth: list[bool], form: str) -> tuple[float, list[float]]:
    """What the code says of one sample with one labelled ROI of four voxels."""
    logits = torch.tensor(LOGITS, dtype=torch.float64).reshape(1, 1, 1, 2, 2).requires_grad_()
    targets, labelled = torch.tensor(truth).reshape(1, 1, 1, 2, 2), torch.tensor([[True]])
    (loss,) = supervised_loss(logits, targets, labelled, SupervisedLoss(cross_entropy=False, dice=form))
    loss.backward()
    return loss.item(), logits.grad.flatten().tolist()


def test_every_form_of_the_config_is_in_the_table_and_in_these_tests():
    assert set(get_args(DiceForm)) == set(DICE_FORMS) == set(SMOOTHING)


def test_the_published_form_in_plain_numbers():
    """Present: 1 − 2·1.5 / (2 + 2 + 1) = 0.4. Absent: 1 − 0 / (2 + 0 + 1) = 1, whatever is predicted."""
    value, slopes = loss_and_gradient(PRESENT, "published")
    assert value == pytest.approx(0.4)
    # The first voxel: −(2·5 − 3) / 25 · 0.9 · 0.1; the last: 3 / 25 · 0.3 · 0.7.
    assert (slopes[0], slopes[3]) == (pytest.approx(-7 / 25 * 0.09), pytest.approx(3 / 25 * 0.21))
    assert loss_and_gradient(ABSENT, "published") == (1.0, [0.0] * 4)


@pytest.mark.parametrize("form", SMOOTHING)
@pytest.mark.parametrize("truth", [PRESENT, ABSENT], ids=["present", "absent"])
def test_value_and_gradient_are_those_of_the_formula(form, truth):
    value, slopes = by_hand(truth, *SMOOTHING[form])
    if form == "present" and truth is ABSENT:
        value, slopes = 0.0, [0.0] * 4  # an absent ROI is not part of the mean
    found, gradient = loss_and_gradient(truth, form)
    assert found == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert gradient == pytest.approx(slopes, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("form", ["published", "present"])
def test_an_absent_roi_gets_no_gradient_from_the_published_dice(form):
    assert loss_and_gradient(ABSENT, form)[1] == [0.0] * 4


@pytest.mark.parametrize("form", ["smoothed", "smoothed_100", "batch"])
def test_smoothing_in_the_numerator_pushes_an_absent_roi_down(form):
    assert all(slope > 0 for slope in loss_and_gradient(ABSENT, form)[1])


def test_present_averages_the_dice_over_the_rois_that_the_patch_contains():
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).reshape(1, 2, 1, 2, 2)
    targets = torch.tensor([PRESENT, ABSENT]).reshape(1, 2, 1, 2, 2)
    labelled = torch.tensor([[True, True]])
    dice, both = (
        supervised_loss(logits, targets, labelled, SupervisedLoss(cross_entropy=False, dice=form)).item()
        for form in ("present", "published")
    )
    assert (dice, both) == (pytest.approx(0.4), pytest.approx((0.4 + 1) / 2))


def test_batch_sums_over_the_samples_that_label_the_roi():
    """Samples 0 and 1 label the ROI, sample 2 does not: N and S are sums over two samples."""
    logits = torch.tensor([LOGITS] * 3, dtype=torch.float64).reshape(3, 1, 1, 2, 2)
    targets = torch.tensor([PRESENT, ABSENT, PRESENT]).reshape(3, 1, 1, 2, 2)
    labelled = torch.tensor([[True], [True], [False]])
    found = supervised_loss(logits, targets, labelled, SupervisedLoss(cross_entropy=False, dice="batch"))
    expected = 1 - (2 * 1.5 + 1e-5) / (2 * 2 + 2 + 1e-5)
    assert found.tolist() == pytest.approx([expected, expected, 0.0])


def test_absent_rois_weigh_in_the_cross_entropy_by_their_key():
    logits = torch.tensor([LOGITS, LOGITS], dtype=torch.float64).reshape(2, 1, 1, 2, 2)
    targets = torch.tensor([PRESENT, ABSENT]).reshape(2, 1, 1, 2, 2)
    labelled = torch.tensor([[True], [True]])
    plain, weighted = (
        supervised_loss(logits, targets, labelled, SupervisedLoss(dice=None, absent_weight=weight))
        for weight in (1.0, 0.25)
    )
    assert weighted.tolist() == pytest.approx([plain[0].item(), plain[1].item() / 4])


class VoxelClassifier(nn.Module):
    """One ROI by a line: the logit of a voxel is its intensity times a weight plus a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return self.weight * image + self.bias


def dice_of_a_rare_roi(form: str) -> float:
    """Dice after training on 64 patches of 512 voxels, eight of which contain the ROI: 4 brighter voxels.

    Their intensity lies four standard deviations above that of the others; of 32,768 voxels 32 belong to the ROI.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 8, 8, 8, generator=generator)
    targets = torch.zeros(64, 1, 8, 8, 8, dtype=torch.bool)
    targets[::8, :, 2:4, 2:4, 2] = True
    images = images * 0.5 + 2.0 * targets
    labelled, settings = torch.ones(64, 1, dtype=torch.bool), SupervisedLoss(cross_entropy=False, dice=form)
    network = VoxelClassifier()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
    for step in range(400):
        rows = slice(step % 8 * 8, step % 8 * 8 + 8)
        supervised_loss(network(images[rows]), targets[rows], labelled[rows], settings).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    predicted = network(images) > 0
    return (2 * (predicted & targets).sum() / (predicted.sum() + targets.sum())).item()


def test_a_small_roi_that_most_patches_lack_is_learned():
    """With smoothing in the numerator it dies: the patches without it outvote those with it."""
    assert dice_of_a_rare_roi("published") > 0.5
    assert dice_of_a_rare_roi("smoothed") < 0.05
