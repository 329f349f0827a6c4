"""What stage check_pseudo_labels depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.method_settings import TeacherScheduleSettings
from ...config.optimisation import Execution
from ...config.pseudo_labels import Share
from ...config.schema import Config
from ...config.section import Section
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
    learned = [dataset for dataset in config.datasets.partially_labelled if dataset.split_cases("train")]
    if not config.pseudo_labels.snapshots or all(dataset.source.kind != "phantom" for dataset in learned):
        return ()
    return tuple(
        training.name
        for training in config.trainings
        if isinstance(config.methods[training.method], TeacherScheduleSettings)
    )


def execution_from(config: Config) -> Execution:
    """The networks run where the training did: editing it reruns nothing."""
    return config.execution
