"""From certainty to expected Dice: the curve that is fitted, what it says of a new mask, and which masks stand out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from pipeline_lib.errors import UserError
from pipeline_lib.prediction.calibration import Mask, calibration, fit
from pipeline_lib.prediction.confidence import Confidence, advice, confidence, logit


def made_up(roi: str, count: int, level: float, slope: float, noise: float, seed: int = 0) -> list[Mask]:
    """Masks whose Dice follows a curve, with noise."""
    random = np.random.default_rng(seed)
    certain = random.uniform(0.6, 0.95, count)
    logits = level + slope * np.log(certain / (1 - certain)) + noise * random.standard_normal(count)
    return [Mask(roi, float(one), float(dice)) for one, dice in zip(certain, 1 / (1 + np.exp(-logits)), strict=True)]


def test_the_curve_is_the_most_likely_one():
    random = np.random.default_rng(1)
    logits, dice, weights = random.normal(1, 1, 60), random.uniform(0, 1, 60), random.uniform(0.1, 2, 60)
    dice = (dice + 1 / (1 + np.exp(-logits))) / 2

    def cost(parameters):
        expected = 1 / (1 + np.exp(-(parameters[0] + parameters[1] * logits)))
        return -(weights * (dice * np.log(expected) + (1 - dice) * np.log(1 - expected))).sum()

    best = optimize.minimize(cost, (0.0, 0.0), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    assert fit(logits, dice, weights) == pytest.approx(best, abs=2e-3)


def test_masks_on_a_curve_give_that_curve_and_masks_that_contradict_it_a_constant():
    logits = np.linspace(-2, 4, 30)
    dice = 1 / (1 + np.exp(-(0.5 + 0.7 * logits)))
    assert fit(logits, dice, np.ones(30)) == pytest.approx((0.5, 0.7), abs=2e-3)
    level, slope = fit(logits, dice[::-1], np.ones(30))
    assert slope == 0
    assert 1 / (1 + np.exp(-level)) == pytest.approx(dice.mean(), abs=1e-3)
    # Masks that are about equally certain tell no slope; the curve is right in their middle.
    level, slope = fit(0.01 * logits, dice, np.ones(30))
    assert slope == 20
    assert 1 / (1 + np.exp(-(level + 20 * 0.01 * logits))) @ np.ones(30) == pytest.approx(dice.sum(), abs=0.05)
    # All Dice 0 has no finite optimum, but an answer.
    assert fit(logits, np.zeros(30), np.ones(30))[0] < -3


def test_an_expected_dice_is_right_on_average_for_each_roi_with_many_masks():
    masks = [*made_up("liver", 200, 1.5, 1.0, 0.5), *made_up("pancreas", 200, -2.0, 1.5, 0.5, seed=1)]
    found = calibration(masks, ("liver", "pancreas"), "held-out")
    for roi in ("liver", "pancreas"):
        own = made_up(roi, 200, *((1.5, 1.0) if roi == "liver" else (-2.0, 1.5)), 0.5, seed=2)
        expected = [confidence(roi, mask.certainty, found).expected_dice for mask in own]
        assert np.mean(expected) == pytest.approx(np.mean([mask.dice for mask in own]), abs=0.02)
        # About one in ten stands out, and those have the lowest Dice to expect.
        looked = [confidence(roi, mask.certainty, found).look_at for mask in own]
        assert 0.04 < np.mean(looked) < 0.2
        assert max(np.array(expected)[looked]) < min(np.array(expected)[~np.array(looked)])


def test_masks_of_nearly_one_certainty_expect_their_mean_dice():
    """Level and slope are far from 0 there, and the expected Dice must still be right on average."""
    random = np.random.default_rng(4)
    logits, dice = logit(0.95) + random.normal(0, 0.02, 300), random.uniform(0.7, 0.9, 300)
    level, slope = fit(logits, dice, np.ones(300))
    assert np.mean(1 / (1 + np.exp(-level - slope * logits))) == pytest.approx(dice.mean(), abs=1e-4)


def test_a_roi_without_masks_takes_the_curve_of_all():
    masks = made_up("liver", 50, 0.3, 0.8, 0.2)
    found = calibration(masks, ("liver", "spleen"), "test").rois
    assert (found["liver"].masks, found["spleen"].masks) == (50, 0)
    assert (found["spleen"].level, found["spleen"].slope) == pytest.approx(
        (found["liver"].level, found["liver"].slope), abs=0.02
    )


def test_few_masks_are_refused():
    with pytest.raises(UserError, match="--calibrate held-out: has 9 masks"):
        calibration(made_up("liver", 9, 0, 1, 0), ("liver",), "held-out")


def test_an_empty_mask_and_a_model_without_calibration_have_no_expected_dice():
    found = calibration(made_up("liver", 50, 0.3, 0.8, 0.2), ("liver",), "test")
    assert confidence("liver", None, found) == Confidence(None, None, None)
    assert confidence("liver", 0.8, None) == Confidence(0.8, None, None)


def test_the_advice_names_what_stands_out_the_worst_first():
    found = {
        "liver": Confidence(0.9, 0.9, False),
        "pancreas": Confidence(0.7, 0.52, True),
        "kidney_left": Confidence(0.7, 0.409, True),
        "spleen": Confidence(None),
    }
    assert advice(found).startswith("look at kidney left (expected Dice 41 %), pancreas (expected Dice 52 %): ")
    assert advice({"liver": Confidence(0.9, 0.9, False), "spleen": Confidence(0.2)}) == ""
