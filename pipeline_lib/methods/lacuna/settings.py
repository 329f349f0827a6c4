"""Settings of our own method: certain evidence is taught as labels are, the teacher's opinion is held consistent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ...config.existence import DecisionRule
from ...config.method_settings import TeacherScheduleSettings
from ...config.section import NonNegative


class Lacuna(TeacherScheduleSettings):
    """Eq. 1; unlabelled ROIs learn where they cannot be, from labels of other organs and from existence scores, and are
    kept consistent with the teacher elsewhere. Nothing that a young teacher confuses is taught as certain. Ours. The
    warm-up leaves out the teacher's term alone: where a ROI cannot be counts from the first step.
    """

    needs_existence: ClassVar[bool] = True
    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "exclusion": "where unlabelled ROIs cannot be",
        "consistency": "consistency (Eq. 3)",
    }

    kind: Literal["lacuna"]
    decision: DecisionRule = DecisionRule()
    exclusion_weight: NonNegative = Field(
        default=1.0,
        description="Weight of what labels of other organs, and existence scores below φ_l, say of unlabelled ROIs.",
    )
    consistency_weight: NonNegative = Field(
        default=1.0, description="Weight of the consistency of unlabelled ROIs with the teacher (w_MSE of Eq. 4)."
    )

    @property
    def needs_organs(self) -> bool:
        return True
