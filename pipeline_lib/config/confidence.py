"""How a model's certainty of a mask relates to its Dice: fitted on cases that it did not learn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Fraction, Name, Section

STEEPEST = 20.0
"""Largest slope of a calibration; a steeper one follows from masks of nearly one certainty."""

CalibrationCases = Literal["held-out", "out-of-fold", "test"]
"""Training cases that `validation` or the model's fold holds out, or test cases.

The scores of the latter two then say nothing more about the calibration.
"""


class RoiCalibration(Section):
    """expected Dice = sigmoid(level + slope · logit(certainty)) for the masks of one ROI."""

    level: Annotated[float, Field(ge=-200, le=200)] = Field(
        description="Logit of the expected Dice at a certainty of one half."
    )
    slope: Annotated[float, Field(ge=0, le=STEEPEST)] = Field(
        description="Change of that logit per change of the certainty's."
    )
    look_below: Fraction = Field(description="Expected Dice below which a mask is less certain than nine in ten.")
    masks: Annotated[int, Field(strict=True, ge=0, le=10**9)] = Field(
        description="Masks of this ROI that it was fitted on."
    )


class Calibration(Section):
    """A calibration for each ROI of a model; `cases` says what it was fitted on, `signal` which number it reads."""

    signal: Literal["soft_dice"] = Field(default="soft_dice", description="How the certainty is computed.")
    cases: CalibrationCases = Field(description="Which cases it was fitted on.")
    rois: dict[Name, RoiCalibration]

    @property
    def masks(self) -> int:
        """Masks of all ROIs."""
        return sum(roi.masks for roi in self.rois.values())
