"""From the settings of a method to its task: the one table that names both."""

from __future__ import annotations

from ..config.method_settings import MethodSettings
from ..config.methods import Method
from .background.settings import Background
from .background.task import BackgroundTask
from .conemos.settings import Conemos
from .conemos.task import ConemosTask
from .hermes.settings import Hermes
from .hermes.task import HermesTask
from .implicit_labelling.settings import ImplicitLabelling
from .implicit_labelling.task import ImplicitLabellingTask
from .labels_alone.settings import LabelsAlone
from .labels_alone.task import LabelsAloneTask
from .lacuna.settings import Lacuna
from .lacuna.task import LacunaTask
from .latent_class.settings import LatentClass
from .latent_class.task import LatentClassTask
from .leaf_dice.settings import LeafDice
from .leaf_dice.task import LeafDiceTask
from .ltuda.settings import Ltuda
from .ltuda.task import LtudaTask
from .ltuda_cda.settings import LtudaCda
from .ltuda_cda.task import LtudaCdaTask
from .marginal_exclusion.settings import MarginalExclusion
from .marginal_exclusion.task import MarginalExclusionTask
from .mean_teacher.settings import MeanTeacher
from .mean_teacher.task import MeanTeacherTask
from .segmentation_task import Ingredients, SegmentationTask
from .target_adaptive.settings import TargetAdaptive
from .target_adaptive.task import TargetAdaptiveTask

TASKS: dict[type[MethodSettings], type[SegmentationTask]] = {
    LabelsAlone: LabelsAloneTask,
    MeanTeacher: MeanTeacherTask,
    LatentClass: LatentClassTask,
    ImplicitLabelling: ImplicitLabellingTask,
    TargetAdaptive: TargetAdaptiveTask,
    MarginalExclusion: MarginalExclusionTask,
    LeafDice: LeafDiceTask,
    Background: BackgroundTask,
    LtudaCda: LtudaCdaTask,
    Ltuda: LtudaTask,
    Conemos: ConemosTask,
    Hermes: HermesTask,
    Lacuna: LacunaTask,
}
"""Settings class → task class of every method."""


def build_task(method: Method, ingredients: Ingredients) -> SegmentationTask:
    """The task of `method`, with its networks in their first state."""
    return task_class(method).build(method, ingredients)


def task_class(method: Method) -> type[SegmentationTask]:
    """The task class of `method`."""
    return TASKS[type(method)]
