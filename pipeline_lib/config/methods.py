"""The methods that are compared: one settings class for each kind, in the folder of the method."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..methods.labels_alone.settings import LabelsAlone
from ..methods.latent_class.settings import LatentClass
from ..methods.mean_teacher.settings import MeanTeacher
from .existence import DecisionRule

Method = Annotated[LabelsAlone | MeanTeacher | LatentClass, Field(discriminator="kind")]
"""One row of the result table; `kind` says which of these it is."""


def decision_rule(method: Method) -> DecisionRule | None:
    """The rule by which `method` decides about existence; None if it does not."""
    return method.decision if isinstance(method, LatentClass) else None
