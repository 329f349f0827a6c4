"""What all phantom data sets share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .section import Fraction, Section

Factor = Annotated[float, Field(ge=0)]


class Phantom(Section):
    """Difficulty of the phantom benchmark; each data set's file sets its size, region and spacing."""

    body_scale: Annotated[float, Field(gt=0.2, le=1)] = Field(
        default=1.0, description="Size of the torso relative to an adult's."
    )
    noise_hu: Factor = Field(default=20.0, description="Standard deviation of the image noise in HU; varies by case.")
    deformation: Factor = Field(default=1.0, description="Strength of shape and pose variation (1: realistic).")
    contrast: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Factor on the HU differences between neighbouring soft tissues."
    )
    tumour_size: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Factor on tumour diameters (1: 10–60 mm, by organ)."
    )
    absent_organ: Fraction = Field(
        default=0.03, description="Probability that a kidney, or the spleen, is missing (as after surgery)."
    )
