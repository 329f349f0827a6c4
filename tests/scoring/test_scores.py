"""The table of scores: each row says what people need, and a row of a score file has a value for each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline_lib.scoring.case_scores import columns, score_roi
from pipeline_lib.scoring.scores import MEASURES, SCORES, Score

SPACING_MM = (1.0, 2.0, 5.0)


def masks() -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth: 12 and 8 voxels in a larger volume, 4 of them common."""
    prediction, truth = np.zeros((2, 9, 10, 11), bool)
    prediction[2:5, 3:5, 4:6] = True
    truth[4:6, 3:5, 4:6] = True
    return prediction, truth


def score(prediction: np.ndarray, truth: np.ndarray, roi: str = "liver_tumor", convention: str = "nnunet") -> dict:
    return score_roi(prediction, truth, roi, SPACING_MM, convention, tolerance_mm=2.0)


def test_a_row_has_the_columns_of_the_score_file_in_their_order():
    row = score(*masks())
    assert ["run", "dataset", "case", *row] == columns()
    assert list(SCORES) == [each.name for each in SCORES.values()]
    assert not SCORES.keys() & MEASURES.keys()


def test_counts_volumes_and_lesions_follow_from_the_masks():
    row = score(*masks())
    assert (row["voxels_prediction"], row["voxels_truth"], row["voxels_both"]) == (12, 8, 4)
    assert (row["volume_prediction_ml"], row["volume_truth_ml"]) == pytest.approx((0.12, 0.08))
    assert (row["dice"], row["dice_dodnet"]) == pytest.approx((2 * 4 / 20, 2 * 4 / 21))
    assert [row[name] for name in columns()[-4:]] == [1, 1, 1, 0]
    assert score(*masks(), roi="liver")["lesions"] is None


def test_the_box_around_both_masks_changes_no_score():
    prediction, truth = masks()
    around = [np.pad(mask, ((0, 5), (4, 0), (2, 3))) for mask in (prediction, truth)]
    assert score(*around) == score(prediction, truth)


def test_empty_masks_have_no_distance_and_masks_of_different_shapes_are_refused():
    empty = np.zeros((3, 4, 5), bool)
    assert math.isnan(score(empty, empty)["hd95_mm"])
    with pytest.raises(ValueError, match="shape"):
        score(empty, np.zeros((5, 4, 3), bool))


def test_a_new_row_of_the_table_is_a_column_of_the_score_file(monkeypatch):
    monkeypatch.setitem(
        SCORES,
        "precision",
        Score(
            name="precision",
            title="precision",
            unit="%",
            digits=0,
            better="higher",
            largest=1.0,
            meaning="share of the predicted voxels that are correct",
            function=lambda compared: compared.overlap.true_positive / compared.overlap.predicted,
        ),
    )
    assert "precision" in columns()
    assert score(*masks())["precision"] == pytest.approx(4 / 12)
