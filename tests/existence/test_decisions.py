"""The rule that sorts unlabelled ROIs into positive latent, negative latent and ambiguous."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.existence import DecisionRule
from pipeline_lib.existence.decisions import decide

PAPER = DecisionRule()


def one(labelled, score, rule=PAPER, dtype=torch.float64):
    """The names of the masks that hold a single ROI."""
    decisions = decide(torch.tensor([[labelled]]), torch.tensor([[score]], dtype=dtype), rule)
    names = ("labelled", "positive", "negative", "ambiguous")
    return [name for name in names if getattr(decisions, name).item()]


def test_the_thresholds_themselves_are_ambiguous():
    for dtype in (torch.float32, torch.float64):
        assert one(False, 0.8, dtype=dtype) == ["ambiguous"]
        assert one(False, 0.1, dtype=dtype) == ["ambiguous"]
    assert one(False, math.nextafter(0.8, 1)) == ["positive"]
    assert one(False, math.nextafter(0.1, 0)) == ["negative"]


def test_another_rule_decides_otherwise():
    rule = DecisionRule(positive_above=0.6, negative_below=0.4)
    assert [one(False, score, rule) for score in (0.7, 0.5, 0.3)] == [["positive"], ["ambiguous"], ["negative"]]


def test_a_score_that_is_not_a_number_decides_nothing():
    assert one(False, math.nan) == ["ambiguous"]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), samples=st.integers(1, 3), rois=st.integers(1, 5))
def test_every_roi_is_sorted_as_one_would_by_hand(seed, samples, rois):
    rng = np.random.default_rng(seed)
    labelled = rng.random((samples, rois)) < 0.4
    scores = rng.choice([0.0, 0.05, 0.1, 0.5, 0.8, 0.95, 1.0], (samples, rois))
    decisions = decide(torch.tensor(labelled), torch.tensor(scores), PAPER)
    for b in range(samples):
        for k in range(rois):
            if labelled[b, k]:
                expected = "labelled"
            elif scores[b, k] > 0.8:
                expected = "positive"
            elif scores[b, k] < 0.1:
                expected = "negative"
            else:
                expected = "ambiguous"
            for name in ("labelled", "positive", "negative", "ambiguous"):
                assert getattr(decisions, name)[b, k].item() == (name == expected)
            assert decisions.latent[b, k].item() == (expected in ("positive", "negative"))
