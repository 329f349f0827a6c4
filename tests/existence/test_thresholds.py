"""Thresholds for a wanted precision: chosen on held-out patches, mapped to calibrated scores, taken by ROIs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.methods import WANTED_PRECISIONS, Method
from pipeline_lib.errors import UserError
from pipeline_lib.existence.metrics import structure_metrics
from pipeline_lib.existence.thresholds import decision_thresholds, lowest_threshold, structure_thresholds

STRUCTURES = ("spleen", "kidney_right", "kidney_left", "stomach")
PRECISE = Method(encoder="words", latent="cross_entropy", wanted_precision=0.95)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def naive_threshold(logits, right, wanted):
    """Try every place between two scores, from the lowest to the highest."""
    values = sorted({0.0, *(value for value in logits if value > 0)})
    for below in values:
        above = [bool(fact) for value, fact in zip(logits, right, strict=True) if value > below]
        if above and (sum(above) + 1) / (len(above) + 2) >= wanted:
            higher = min(value for value in logits if value > below)
            return (below + higher) / 2
    return None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), wanted=st.sampled_from((0.6, *WANTED_PRECISIONS)))
def test_the_threshold_is_the_lowest_that_is_precise_enough(seed, count, wanted):
    random = np.random.default_rng(seed)
    logits = random.integers(-6, 7, count) / 2  # with ties
    right = random.random(count) < 1 / (1 + np.exp(-2 * logits))
    expected = naive_threshold(logits.tolist(), right.tolist(), wanted)
    found = lowest_threshold(logits, right, wanted)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_handful_of_patches_proves_nothing():
    logits = np.linspace(1, 2, 17)
    assert lowest_threshold(logits, np.ones(17, bool), 0.95) is None
    assert lowest_threshold(np.append(logits, 3), np.ones(18, bool), 0.95) == pytest.approx(0.5)


def held_out(count=600, seed=0, slope=2.0):
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, count)
    return logits, random.random(count) < 1 / (1 + np.exp(-slope * logits))


@pytest.mark.parametrize("wanted", WANTED_PRECISIONS[:4])
def test_both_decisions_reach_the_precision_and_do_not_overlap(wanted):
    logits, present = held_out(2000)
    chosen = structure_thresholds(logits, present)[f"{wanted:g}"]
    scores = 1 / (1 + np.exp(-logits))
    above, below = scores > chosen["positive_above"], scores < chosen["negative_below"]
    assert present[above].mean() >= wanted
    assert (~present[below]).mean() >= wanted
    assert chosen["negative_below"] <= 0.5 <= chosen["positive_above"]


def test_nothing_is_chosen_without_patches_of_both_kinds():
    logits = np.linspace(-1, 5, 200)
    for present in (np.ones(200, bool), np.zeros(200, bool), np.arange(200) >= 4):
        for chosen in structure_thresholds(logits, present).values():
            assert chosen == {"positive_above": None, "negative_below": None}


@pytest.fixture
def metrics(tmp_path):
    """metrics.json of four structures; the stomach is never present."""
    columns = [held_out(seed=seed, slope=slope) for seed, slope in enumerate((1.0, 2.0, 3.0))]
    columns.append((np.full(600, -3.0), np.zeros(600, bool)))
    path = tmp_path / "metrics.json"
    path.write_text(
        json.dumps(structure_metrics(STRUCTURES, *(np.stack(part, 1) for part in zip(*columns, strict=True))))
    )
    return path


def chosen_for(metrics, structure, key):
    return json.loads(metrics.read_text())["structures"][structure]["thresholds"]["0.95"][key]


def test_a_roi_takes_the_strictest_thresholds_of_its_structures(metrics):
    rois = [("spleen",), ("kidney_right", "kidney_left"), ("stomach",)]
    thresholds = decision_thresholds(PRECISE, rois, metrics, "none")
    above, below = thresholds.positive_above.tolist(), thresholds.negative_below.tolist()
    assert above[0] == pytest.approx(chosen_for(metrics, "spleen", "positive_above"))
    kidneys = [chosen_for(metrics, name, "positive_above") for name in rois[1]]
    assert above[1] == pytest.approx(max(kidneys))
    assert below[1] == pytest.approx(min(chosen_for(metrics, name, "negative_below") for name in rois[1]))
    # No score is above 1 or below 0: the ROI stays ambiguous.
    assert (above[2], below[2]) == (1.0, 0.0)


@pytest.mark.parametrize("calibration", ["temperature", "platt"])
def test_calibrated_scores_are_cut_at_the_same_patches(metrics, calibration):
    line = json.loads(metrics.read_text())["structures"]["spleen"]["calibration"][calibration]
    plain = decision_thresholds(PRECISE, [("spleen",)], metrics, "none")
    mapped = decision_thresholds(PRECISE, [("spleen",)], metrics, calibration)
    for before, after in ((plain.positive_above, mapped.positive_above), (plain.negative_below, mapped.negative_below)):
        logit = math.log(before.item() / (1 - before.item()))
        assert after.item() == pytest.approx(sigmoid(line["slope"] * logit + line["offset"]))


def test_a_methods_own_thresholds_hold_for_every_roi():
    thresholds = decision_thresholds(Method(encoder="words"), [()] * 3, None, "none")
    assert thresholds.positive_above.tolist() == [0.8] * 3
    assert thresholds.negative_below.tolist() == [0.1] * 3


def test_a_method_is_the_same_after_a_round_trip_through_its_settings():
    assert Method.model_validate_json(PRECISE.model_dump_json()) == PRECISE
    assert (PRECISE.positive_above, PRECISE.negative_below) == (None, None)


def test_metrics_without_thresholds_are_told_in_a_line(metrics, tmp_path):
    content = json.loads(metrics.read_text())
    del content["structures"]["spleen"]["thresholds"]
    metrics.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"holds no thresholds of spleen for a precision of 0\.95; rerun the stage"):
        decision_thresholds(PRECISE, [("spleen",)], metrics, "none")
    with pytest.raises(UserError, match="wanted_precision: needs"):
        decision_thresholds(PRECISE, [("spleen",)], None, "none")
