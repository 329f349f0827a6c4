"""When a training keeps its teacher, so that what the teacher taught can be compared with the truth afterwards."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from .section import Section

Share = Annotated[float, Field(gt=0, le=1)]


class PseudoLabels(Section):
    """What the target `pseudo_labels` needs of the trainings; it changes nothing that is learned."""

    snapshots: tuple[Share, ...] = Field(
        default=(),
        description="Shares of a training after which its mean teacher is kept, in `results/models/RUN/teachers/` "
        "(empty: never; 1: at the end). A training that is finished and has none of them is trained again when the "
        "key is set.",
    )

    @field_validator("snapshots")
    @classmethod
    def _rise(cls, snapshots: tuple[float, ...]) -> tuple[float, ...]:
        if list(snapshots) != sorted(set(snapshots)):
            raise ValueError("`snapshots` must rise, as in [0.25, 0.5, 1]")
        return snapshots
