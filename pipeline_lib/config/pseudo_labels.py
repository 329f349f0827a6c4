"""When a training keeps its teacher, so that what the teacher taught can be compared with the truth afterwards."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from .section import Section

Share = Annotated[float, Field(gt=0, le=1)]


class PseudoLabelCheck(Section):
    """What the target `pseudo_labels` needs of the trainings; it changes nothing that is learned."""

    snapshots: tuple[Share, ...] = Field(
        default=(),
        description="Shares of a training after which its mean teacher is kept, in `results/models/RUN/teachers/` "
        "(empty: never; 1: at the end). The target trains again what was finished without any; after you add a share "
        "to others, name it with `--forcerun train`.",
    )

    @field_validator("snapshots")
    @classmethod
    def _increase(cls, snapshots: tuple[float, ...]) -> tuple[float, ...]:
        if list(snapshots) != sorted(set(snapshots)):
            raise ValueError("`snapshots` must increase, as in [0.25, 0.5, 1]")
        return snapshots
