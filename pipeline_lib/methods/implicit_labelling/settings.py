"""Settings of implicit labelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ...config.method_settings import SupervisedMethodSettings
from ...config.section import NonNegative


class ImplicitLabelling(SupervisedMethodSettings):
    """Eq. 1, and the label of one organ as evidence against every other organ, without a teacher.

    Jenke et al.: "One model to use them all", International Journal of Computer Assisted Radiology and Surgery, 2024.
    """

    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "exclusion": "labels of other organs",
    }

    kind: Literal["implicit_labelling"]
    label_exclusion_weight: NonNegative = Field(
        default=1.0,
        description="Weight of the cross-entropy of unlabelled ROIs at voxels that are labelled as another organ.",
    )

    @property
    def needs_organs(self) -> bool:
        return True
