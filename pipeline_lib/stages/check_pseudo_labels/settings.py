"""What stage check_pseudo_labels depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.method_settings import TeacherScheduleSettings
from ...config.optimisation import Execution
from ...config.pseudo_labels import Share
from ...config.schema import Config
from ...config.section import Section
from ...errors import UserError
from ..train import settings as train


class Settings(Section):
    """The training whose teacher is judged, as stage train has it, and the shares of it after which it was kept."""

    training: train.Settings
    snapshots: tuple[Share, ...]


@dataclass(frozen=True)
class Inputs:
    """What the training read, the folder of its teacher's snapshots, and folders of full truth.

    The folders of `truth` are named by their data sets; a data set may have none.
    """

    cases: tuple[Path, ...]
    existence: tuple[Path, ...]
    embeddings: Path
    roi_aware_model: Path | None
    teachers: Path
    truth: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """One row per data set, snapshot, decision and ROI."""

    table: Path


def settings_from(config: Config, run: str) -> Settings:
    """The settings of the training `run`, and when its teacher was kept; UserError if it is not a single training."""
    return Settings(training=train.settings_from(config, run), snapshots=config.pseudo_labels.snapshots)


def checked_trainings(config: Config) -> tuple[str, ...]:
    """The trainings whose teachers teach and are kept, where they learn from a phantom, whose full truth is known."""
    return () if why_none_is_checked(config) else _taught_trainings(config)


def why_none_is_checked(config: Config) -> UserError | None:
    """Names the key for which no training has pseudo labels to compare; None if one has."""
    learned = [dataset for dataset in config.datasets.partially_labelled if dataset.split_cases("train")]
    if not config.pseudo_labels.snapshots:
        remedy = "set it, for example to [0.25, 0.5, 1]; trainings that are finished are then trained again"
        return UserError("pseudo_labels.snapshots", "is empty, so no training keeps its teacher", remedy)
    if all(dataset.source.kind != "phantom" for dataset in learned):
        wrong = "has no phantom to learn from, and of other data sets the full truth is not known"
        return UserError("datasets.partially_labelled", wrong, "add one with training cases")
    if not _taught_trainings(config):
        return UserError("compare", "names no method in which a teacher teaches", "add one, such as mean_teacher")
    return None


def _taught_trainings(config: Config) -> tuple[str, ...]:
    return tuple(
        training.name
        for training in config.trainings
        if isinstance(config.methods[training.method], TeacherScheduleSettings)
    )


def execution_from(config: Config) -> Execution:
    """The networks run where the training did: editing it reruns nothing."""
    return config.execution
