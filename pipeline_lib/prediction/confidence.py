"""What a user is told about how far to trust a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..config.confidence import Calibration, RoiCalibration
from ..reporting.results import roi_label

_NEARLY = 1e-3
"""Certainties this close to 0 or 1 are no longer told apart."""


@dataclass(frozen=True)
class Confidence:
    """How far to trust one mask.

    `certainty` is the network's own (`inference.certainty`), and is not a Dice; None for an empty mask. `expected_dice`
    is what the calibration makes of it, and `look_at` says that it lies below that of nine in ten of the masks that the
    calibration saw; both are None without a calibration and for an empty mask. `agreement` is the Dice between the
    masks of several models (`ensemble.Ensemble.agreement`); None for a single one, and where no model finds the ROI.
    """

    certainty: float | None
    expected_dice: float | None = None
    look_at: bool | None = None
    agreement: float | None = None


def confidence(
    roi: str, certainty: float | None, calibration: Calibration | None, agreement: float | None = None
) -> Confidence:
    """The confidence in a mask of `roi`."""
    if certainty is None or calibration is None:
        return Confidence(certainty, agreement=agreement)
    calibrated = calibration.rois[roi]
    expected = expected_dice(certainty, calibrated)
    return Confidence(certainty, expected, expected < calibrated.look_below, agreement)


def expected_dice(certainty: float, calibrated: RoiCalibration) -> float:
    """sigmoid(level + slope · logit(certainty)), from 0 to 1."""
    return 1 / (1 + math.exp(-(calibrated.level + calibrated.slope * logit(certainty))))


def logit(share: float) -> float:
    """log(share / (1 − share)), of a share kept away from 0 and 1."""
    kept = min(max(share, _NEARLY), 1 - _NEARLY)
    return math.log(kept / (1 - kept))


def advice(found: Mapping[str, Confidence]) -> str:
    """The ROIs (ROI → confidence) that a person should look at, the least certain first; empty if there are none."""
    doubtful = sorted(
        (confidence.expected_dice, roi)
        for roi, confidence in found.items()
        if confidence.look_at and confidence.expected_dice is not None
    )
    if not doubtful:
        return ""
    listed = ", ".join(f"{roi_label(roi)} (expected Dice {100 * dice:.0f} %)" for dice, roi in doubtful)
    return f"look at {listed}: less certain than nine in ten of the masks of the calibration"
