"""One row of the score table: a method's prediction of one ROI in one case, held against the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..config.rois import is_lesion
from .dice import CONVENTIONS, dice, overlap
from .lesions import detect
from .surface import bounding_box, surface_scores

COLUMNS = (
    "method",
    "dataset",
    "case",
    "roi",
    "dice",
    *(f"dice_{convention}" for convention in CONVENTIONS),
    "surface_dice",
    "hd95_mm",
    "volume_truth_ml",
    "volume_prediction_ml",
    "voxels_truth",
    "voxels_prediction",
    "voxels_both",
    "lesions",
    "lesions_found",
    "lesions_predicted",
    "lesions_false",
)
"""Columns of results/scores/RUN.csv; an empty field means that the score is not defined for this row."""


def score_roi(
    prediction: np.ndarray,
    truth: np.ndarray,
    roi: str,
    spacing_mm: tuple[float, float, float],
    convention: str,
    tolerance_mm: float,
) -> dict[str, Any]:
    """Score one ROI of one case.

    Parameters
    ----------
    prediction, truth: bool, D H W, on the original image's grid.
    roi: its name; tumours are also scored lesion by lesion.
    spacing_mm: voxel spacing (x, y, z) in mm.
    convention: the Dice that goes into the column `dice`.
    tolerance_mm: tolerance of the surface Dice.

    Returns
    -------
    Column → value, from `roi` on; NaN and None where a score is not defined.
    """
    counts = overlap(prediction, truth)
    if not counts.both_empty:
        # Distances and components need only the box around both masks.
        box = bounding_box(prediction | truth)
        prediction, truth = prediction[box], truth[box]
    surface_dice, hd95_mm = surface_scores(prediction, truth, spacing_mm, tolerance_mm)
    millilitres = math.prod(spacing_mm) / 1000
    row = {
        "roi": roi,
        "dice": dice(counts, convention),
        **{f"dice_{name}": dice(counts, name) for name in CONVENTIONS},
        "surface_dice": surface_dice,
        "hd95_mm": hd95_mm,
        "volume_truth_ml": counts.truth * millilitres,
        "volume_prediction_ml": counts.predicted * millilitres,
        "voxels_truth": counts.truth,
        "voxels_prediction": counts.predicted,
        "voxels_both": counts.true_positive,
    }
    if is_lesion(roi):
        found = detect(prediction, truth)
        row |= {
            "lesions": found.lesions,
            "lesions_found": found.found,
            "lesions_predicted": found.predicted,
            "lesions_false": found.false,
        }
    return row
