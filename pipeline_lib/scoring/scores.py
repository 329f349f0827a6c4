"""Everything that is measured in one ROI of one case, as two tables: `SCORES` and `MEASURES`.

To add a score, write its function and add a row to `SCORES`: score files, summary and report read the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ..config.rois import is_lesion
from .dice import CONVENTIONS, Overlap, dice, overlap
from .false_voxels import FalseVoxels, false_voxels
from .lesions import Detection, detect
from .surface import SurfaceScores, surface_scores


@dataclass(frozen=True, eq=False)
class Comparison:
    """Prediction and ground truth of one ROI in one case (bool, D H W, on the same grid), and how they are compared.

    `others` (bool, D H W) is where another labelled organ is. `spacing_mm` is the voxel spacing (x, y, z) in mm,
    `convention` the Dice convention of the column `dice`, `tolerance_mm` the tolerance of the surface Dice.
    """

    prediction: np.ndarray
    truth: np.ndarray
    others: np.ndarray
    roi: str
    spacing_mm: tuple[float, float, float]
    convention: str
    tolerance_mm: float

    @cached_property
    def overlap(self) -> Overlap:
        return overlap(self.prediction, self.truth)

    @cached_property
    def surface(self) -> SurfaceScores:
        return surface_scores(self.prediction, self.truth, self.spacing_mm, self.tolerance_mm)

    @cached_property
    def detection(self) -> Detection | None:
        """Lesions that are found; None for a ROI that is not made of lesions."""
        return detect(self.prediction, self.truth) if is_lesion(self.roi) else None

    @cached_property
    def false_voxels(self) -> FalseVoxels:
        return false_voxels(self.prediction, self.truth, self.others, self.spacing_mm)

    @property
    def voxel_ml(self) -> float:
        return math.prod(self.spacing_mm) / 1000


@dataclass(frozen=True)
class Score:
    """A score of one ROI in one case, NaN where it is not defined, and how people see it.

    `name` is its column in the score files. `unit` "%" stands for shares, which are stored as 0 … 1. `largest` is the
    largest value that it can have, as stored. `meaning` is one clause; `{tolerance_mm}` in it is the config's.
    """

    name: str
    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower"]
    largest: float
    meaning: str
    function: Callable[[Comparison], float]

    @property
    def heading(self) -> str:
        return f"{self.title} ({self.unit})"

    def in_unit(self, value: float) -> float:
        """A stored value in the score's unit."""
        return 100 * value if self.unit == "%" else value


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(
            name="dice",
            title="Dice",
            unit="%",
            digits=1,
            better="higher",
            largest=1.0,
            meaning="overlap of prediction and truth, by the convention of the config",
            function=lambda compared: dice(compared.overlap, compared.convention),
        ),
        Score(
            name="surface_dice",
            title="Surface Dice",
            unit="%",
            digits=1,
            better="higher",
            largest=1.0,
            meaning="share of both surfaces that lies within {tolerance_mm:g} mm of the other one",
            function=lambda compared: compared.surface.dice,
        ),
        Score(
            name="hd95_mm",
            title="HD95",
            unit="mm",
            digits=1,
            better="lower",
            largest=math.inf,
            meaning="95th percentile of the distances between edge voxels, over cases in which both truth and "
            "prediction contain the ROI; missing a ROI altogether does not make it worse, so read it beside Dice",
            function=lambda compared: compared.surface.hd95_mm,
        ),
    )
}
"""Scores by name, the main one first. The summary has their means and intervals, the page a column for each."""


def _dice_by(convention: str) -> Callable[[Comparison], float]:
    return lambda compared: dice(compared.overlap, convention)


def _detected(field: str) -> Callable[[Comparison], float | None]:
    return lambda compared: getattr(compared.detection, field, None)


MEASURES: dict[str, Callable[[Comparison], float | None]] = {
    **{f"dice_{name}": _dice_by(name) for name in CONVENTIONS},
    "volume_truth_ml": lambda compared: compared.overlap.truth * compared.voxel_ml,
    "volume_prediction_ml": lambda compared: compared.overlap.predicted * compared.voxel_ml,
    "volume_false_in_other_ml": lambda compared: compared.false_voxels.in_other * compared.voxel_ml,
    "volume_false_near_border_ml": lambda compared: compared.false_voxels.near_border * compared.voxel_ml,
    "volume_false_elsewhere_ml": lambda compared: compared.false_voxels.elsewhere * compared.voxel_ml,
    "voxels_truth": lambda compared: compared.overlap.truth,
    "voxels_prediction": lambda compared: compared.overlap.predicted,
    "voxels_both": lambda compared: compared.overlap.true_positive,
    "lesions": _detected("lesions"),
    "lesions_found": _detected("found"),
    "lesions_predicted": _detected("predicted"),
    "lesions_false": _detected("false"),
}
"""Further columns of the score files, by name; None where a ROI has none."""
