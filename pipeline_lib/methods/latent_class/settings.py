"""Settings of the paper's method, latent classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...config.existence import DecisionRule
from ...config.method_settings import SHARPENING_TEMPERATURE, TeacherMethodSettings
from ...config.section import NonNegative


class LatentClass(TeacherMethodSettings):
    """Eq. 1 to 4: unlabelled ROIs learn from the teacher, by what their existence scores decide.

    Zhao et al.: "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
    2024. Latent ROIs learn its sharpened output (Eq. 2), ambiguous ones are kept consistent with it (Eq. 3).
    """

    removed: ClassVar = {
        "negative_target": "the paper treats both kinds of latent ROIs alike and no experiment used it",
        "wanted_precision": "thresholds chosen for each ROI improved no result (docs/evidence.md)",
    }
    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "latent": "latent loss (Eq. 2)",
        "consistency": "consistency (Eq. 3)",
    }

    kind: Literal["latent_class"]
    decision: DecisionRule = DecisionRule()
    consistency: bool = Field(
        default=True, description="Include Eq. 3 on ambiguous ROIs; false: they learn nothing (without MSE)."
    )
    sharpening_temperature: Annotated[float, Field(gt=0, le=1)] = Field(
        default=SHARPENING_TEMPERATURE,
        description="τ of the sharpening in Eq. 2; 1 leaves the teacher's output as it is.",
    )
    latent_weight: NonNegative = Field(default=1.0, description="w_CE of Eq. 4.")
    consistency_weight: NonNegative = Field(default=1.0, description="w_MSE of Eq. 4.")

    @property
    def needs_existence(self) -> bool:
        return True

    @model_validator(mode="after")
    def _weighs_only_its_terms(self) -> Self:
        if not self.consistency and self.consistency_weight != 1:
            raise ValueError("`consistency_weight` has no effect with `consistency: false`: leave it out")
        return self
