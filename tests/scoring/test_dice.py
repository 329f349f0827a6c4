"""Each Dice convention, against numbers worked out by hand and against plain counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.scoring.dice import CONVENTION_TEXTS, CONVENTIONS, Overlap, dice, overlap

NAN = math.nan


@pytest.mark.parametrize(
    ("convention", "some_overlap", "truth_empty", "prediction_empty", "both_empty"),
    [
        ("nnunet", 2 * 3 / (5 + 4), 0.0, 0.0, NAN),
        ("uniseg", 2 * 3 / (5 + 4), 0.0, 0.0, 1.0),
        ("dodnet", 2 * 3 / (5 + 4 + 1), 0.0, 0.0, 0.0),
        ("universal_model", 2 * 3 / (5 + 4 + 1), NAN, 0.0, NAN),
    ],
)
def test_each_convention_in_the_four_situations(convention, some_overlap, truth_empty, prediction_empty, both_empty):
    found = [
        dice(counts, convention) for counts in (Overlap(3, 5, 4), Overlap(0, 5, 0), Overlap(0, 0, 4), Overlap(0, 0, 0))
    ]
    assert found == pytest.approx([some_overlap, truth_empty, prediction_empty, both_empty], nan_ok=True)


def test_only_the_conventions_with_one_in_the_denominator_miss_1_for_a_perfect_prediction():
    perfect = Overlap(9, 9, 9)
    assert {name: dice(perfect, name) for name in CONVENTIONS} == pytest.approx(
        {"nnunet": 1.0, "uniseg": 1.0, "dodnet": 18 / 19, "universal_model": 18 / 19}
    )


def test_every_convention_is_explained():
    assert set(CONVENTION_TEXTS) == set(CONVENTIONS)


@given(st.integers(0, 2**18 - 1), st.integers(0, 2**18 - 1))
def test_overlap_counts_voxels(first, second):
    prediction, truth = (
        np.array([number >> place & 1 for place in range(18)], dtype=bool).reshape(2, 3, 3)
        for number in (first, second)
    )
    assert overlap(prediction, truth) == Overlap((first & second).bit_count(), first.bit_count(), second.bit_count())


def test_masks_on_different_grids_are_refused():
    with pytest.raises(ValueError, match="shape"):
        overlap(np.zeros((1, 2, 3), bool), np.zeros((3, 2, 1), bool))
