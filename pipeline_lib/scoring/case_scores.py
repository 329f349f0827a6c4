"""One row of a score file: a run's prediction of one ROI in one case, compared with the ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from .scores import MEASURES, SCORES, Comparison
from .surface import bounding_box


def columns() -> list[str]:
    """Columns of results/scores/RUN.csv; an empty field means that the score is not defined for this row."""
    return ["run", "dataset", "case", "roi", *SCORES, *MEASURES]


def score_roi(
    prediction: np.ndarray,
    truth: np.ndarray,
    roi: str,
    spacing_mm: tuple[float, float, float],
    convention: str,
    tolerance_mm: float,
    known: np.ndarray | None = None,
    others: np.ndarray | None = None,
) -> dict[str, Any]:
    """Score one ROI of one case.

    Parameters
    ----------
    prediction, truth: bool, D H W, on the original image's grid.
    roi: its name; tumours are also scored lesion by lesion.
    spacing_mm: voxel spacing (x, y, z) in mm.
    convention: the Dice convention of the column `dice`.
    tolerance_mm: tolerance of the surface Dice.
    known: bool, D H W; voxels elsewhere are left out of both masks. None: all voxels are known.
    others: bool, D H W; where another labelled organ is. None: nowhere.

    Returns
    -------
    Column → value, from `roi` on; NaN or None where a score is not defined. ValueError: the masks differ in shape.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in shape: {prediction.shape} and {truth.shape}")
    if known is not None:
        prediction, truth = prediction & known, truth & known
    others = np.zeros_like(truth) if others is None else others
    either = prediction | truth
    if either.any():
        # Distances and components need only the box around both masks.
        box = bounding_box(either)
        prediction, truth, others = prediction[box], truth[box], others[box]
    compared = Comparison(prediction, truth, others, roi, spacing_mm, convention, tolerance_mm)
    return {
        "roi": roi,
        **{name: score.function(compared) for name, score in SCORES.items()},
        **{name: measure(compared) for name, measure in MEASURES.items()},
    }
