"""Dice by each convention of the field: they differ in a + 1 in the denominator, and in what an absent ROI scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CONVENTIONS = ("nnunet", "dodnet", "uniseg", "universal_model")
"""Names as in `scores.convention` of the config; each is a column `dice_NAME` of the score tables."""

CONVENTION_TEXTS = {
    "nnunet": "2TP/(P+G); cases in which prediction and truth are both empty are left out (nnU-Net v2)",
    "dodnet": "2TP/(P+G+1); both empty scores 0 (DoDNet's formula, on the original grid as in TransDoDNet)",
    "uniseg": "2TP/(P+G); both empty scores 1 (UniSeg)",
    "universal_model": "2TP/(P+G+1); cases in which the truth is empty are left out, whatever is predicted "
    "(the CLIP-driven Universal Model's formula, on the original grid)",
}
"""TP: voxels in both masks, P: in the prediction, G: in the ground truth."""


@dataclass(frozen=True)
class Overlap:
    """The voxel counts that every convention is computed from."""

    true_positive: int
    predicted: int
    truth: int

    @property
    def both_empty(self) -> bool:
        return self.predicted == 0 and self.truth == 0


def overlap(prediction: np.ndarray, truth: np.ndarray) -> Overlap:
    """Count the voxels of two masks (bool, D H W) on the same grid."""
    if prediction.shape != truth.shape:
        raise ValueError(f"masks differ in shape: {prediction.shape} and {truth.shape}")
    return Overlap(
        true_positive=int(np.count_nonzero(prediction & truth)),
        predicted=int(np.count_nonzero(prediction)),
        truth=int(np.count_nonzero(truth)),
    )


def dice(counts: Overlap, convention: str) -> float:
    """Dice of one ROI in one case; NaN where the convention leaves the case out."""
    return _FORMULAS[convention](counts)


def scores_absence(convention: str) -> bool:
    """Whether a convention gives a Dice to a ROI that neither truth nor prediction contains."""
    return not math.isnan(dice(Overlap(0, 0, 0), convention))


def _plain(counts: Overlap, both_empty: float) -> float:
    if counts.both_empty:
        return both_empty
    return 2 * counts.true_positive / (counts.predicted + counts.truth)


def _plus_one(counts: Overlap) -> float:
    return 2 * counts.true_positive / (counts.predicted + counts.truth + 1)


_FORMULAS: dict[str, Callable[[Overlap], float]] = {
    "nnunet": lambda counts: _plain(counts, math.nan),
    "dodnet": _plus_one,
    "uniseg": lambda counts: _plain(counts, 1.0),
    "universal_model": lambda counts: _plus_one(counts) if counts.truth else math.nan,
}
