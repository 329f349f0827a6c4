"""Settings of the mean teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ...config.method_settings import TeacherMethodSettings
from ...config.section import NonNegative


class MeanTeacher(TeacherMethodSettings):
    """Eq. 1, and consistency with the teacher on every ROI, labelled or not, whatever its existence.

    Tarvainen and Valpola: "Mean teachers are better role models", NeurIPS 2017.
    """

    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "consistency": "consistency (Eq. 3)",
    }

    kind: Literal["mean_teacher"]
    consistency_weight: NonNegative = Field(default=1.0, description="Weight of the consistency term (w_MSE of Eq. 4).")
