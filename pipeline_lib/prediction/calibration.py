"""From certainties to expected Dice: a logistic curve for each ROI, fitted on cases that the model did not learn from.

A curve has two parameters. All masks of all ROIs together count as much as `PRIOR_MASKS` masks of the ROI itself, so
that a ROI with few masks, or none, takes the common curve, and one with many its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..config.confidence import STEEPEST, Calibration, CalibrationCases, RoiCalibration
from ..errors import UserError
from .confidence import expected_dice, logit

PRIOR_MASKS = 5
FEWEST_MASKS = 10
"""Masks that a calibration needs in all."""
_LOOK_AT = 0.1
_RIDGE = 1e-3
_STEPS = 500


@dataclass(frozen=True)
class Mask:
    """A predicted mask that is not empty: its ROI, the network's certainty of it, and its Dice."""

    roi: str
    certainty: float
    dice: float


def calibration(masks: Sequence[Mask], rois: Iterable[str], cases: CalibrationCases) -> Calibration:
    """A calibration of all `rois`; raises UserError if there are too few masks to fit one."""
    if len(masks) < FEWEST_MASKS:
        wrong = f"has {len(masks)} masks to calibrate on, and {FEWEST_MASKS} are needed"
        raise UserError(f"--calibrate {cases}", wrong, "name other cases, or leave it out")
    return Calibration(cases=cases, rois={roi: _of_roi(roi, masks) for roi in rois})


def _of_roi(roi: str, masks: Sequence[Mask]) -> RoiCalibration:
    own = np.array([mask.roi == roi for mask in masks])
    weights = own + PRIOR_MASKS / len(masks)
    logits = np.array([logit(mask.certainty) for mask in masks])
    level, slope = fit(logits, np.array([mask.dice for mask in masks]), weights)
    fitted = RoiCalibration(level=level, slope=slope, look_below=0, masks=int(own.sum()))
    expected = np.array([expected_dice(mask.certainty, fitted) for mask in masks])
    return fitted.model_copy(update={"look_below": _quantile(expected, weights, _LOOK_AT)})


def fit(logits: np.ndarray, dice: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Level and slope of the logistic curve that is most likely for `dice` (0 … 1) at `logits`.

    A slope below 0 is noise of few masks, and one above `STEEPEST` of masks that are about equally certain: the slope
    is then 0 or that, and the level is the most likely one with it. Newton's method on the weighted cross-entropy with
    fractional targets, which is convex, and a very small ridge.
    """
    # Centred, level and slope hardly depend on each other.
    centre = float(np.average(logits, weights=weights))
    design = np.stack([np.ones_like(logits), logits - centre], axis=1)
    level, slope = _newton(design, dice, weights, np.zeros_like(logits))
    kept = min(max(slope, 0.0), STEEPEST)
    if kept != slope:
        level = _newton(design[:, :1], dice, weights, kept * design[:, 1])[0]
    return level - kept * centre, kept


def _newton(design: np.ndarray, dice: np.ndarray, weights: np.ndarray, added: np.ndarray) -> list[float]:
    """Parameters of sigmoid(design · parameters + added)."""
    parameters = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(-design @ parameters - added))
        slope = design.T @ (weights * (expected - dice)) + _RIDGE * parameters
        bend = (design.T * (weights * expected * (1 - expected))) @ design + _RIDGE * np.eye(len(parameters))
        step = np.linalg.solve(bend, slope)
        # Far from the optimum a full step overshoots.
        parameters -= step / max(1, np.abs(step).max())
        if np.abs(step).max() < 1e-9:
            break
    return [float(parameter) for parameter in parameters]


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The smallest value with at least `share` of the weight at or below it."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, share * below[-1])])
