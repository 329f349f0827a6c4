"""The methods that are compared: one settings class for each kind, in the folder of the method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from ..errors import UserError
from ..methods.background.settings import Background
from ..methods.conemos.settings import Conemos
from ..methods.hermes.settings import Hermes
from ..methods.implicit_labelling.settings import ImplicitLabelling
from ..methods.labels_alone.settings import LabelsAlone
from ..methods.lacuna.settings import Lacuna
from ..methods.latent_class.settings import LatentClass
from ..methods.leaf_dice.settings import LeafDice
from ..methods.ltuda.settings import Ltuda
from ..methods.ltuda_cda.settings import LtudaCda
from ..methods.marginal_exclusion.settings import MarginalExclusion
from ..methods.mean_teacher.settings import MeanTeacher
from ..methods.target_adaptive.settings import TargetAdaptive
from .existence import DecisionRule

Method = Annotated[
    LabelsAlone
    | MeanTeacher
    | LatentClass
    | ImplicitLabelling
    | TargetAdaptive
    | MarginalExclusion
    | LeafDice
    | Background
    | LtudaCda
    | Ltuda
    | Conemos
    | Hermes
    | Lacuna,
    Field(discriminator="kind"),
]
"""One row of the result table; `kind` says which of these it is."""


def read_method(content: Any) -> Method:
    """The method that the description of a model file holds; UserError if this version does not know it."""
    try:
        return TypeAdapter[Method](Method).validate_python(content)
    except ValidationError as error:
        kind = content.get("kind") if isinstance(content, Mapping) else None
        wrong = f"the model was trained by a method of kind {kind}, which this version does not know or reads otherwise"
        raise UserError("model file", wrong, "move it away and rerun the pipeline to train it again") from error


def decision_rule(method: Method) -> DecisionRule | None:
    """The rule by which `method` decides about existence; None if it does not."""
    return getattr(method, "decision", None)
