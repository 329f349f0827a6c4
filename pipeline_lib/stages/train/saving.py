"""The model files that a training writes: its networks at the end, and its teacher on the way."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...config.method_settings import TeacherScheduleSettings
from ...methods.segmentation_task import SegmentationTask
from ...networks.model_file import save_model
from ...training.distributed import Distributed
from ...training.snapshots import snapshot_name
from .settings import Outputs, Settings, TrainingExecution


def save(
    settings: Settings,
    task: SegmentationTask,
    labelled: Mapping[str, Sequence[str]],
    outputs: Outputs,
    started_from: str | None = None,
) -> None:
    """Write the student, and the teacher if there is one, with all that is needed to use them.

    `started_from` is the digest of the file that the training started from: its path is not for the model's users.
    """
    predictors = task.predictors()
    description = description_of(settings) | {"labelled": labelled}
    if started_from is not None:
        description["started_from"] = started_from
    save_model(outputs.model, predictors["student"], description, predictors.get("teacher"))


def teacher_files(settings: Settings, execution: TrainingExecution, outputs: Outputs) -> list[Path]:
    """Where the teacher's snapshots end; none where no teacher teaches, or if nobody asks for them."""
    if not isinstance(settings.method, TeacherScheduleSettings):
        return []
    return [outputs.teachers / snapshot_name(share) for share in execution.snapshots]


def clean_teachers_folder(execution: TrainingExecution, outputs: Outputs, distributed: Distributed) -> None:
    """Delete the snapshots of an earlier training, and make the folder anew if snapshots are asked for."""
    if distributed.is_main:
        shutil.rmtree(outputs.teachers, ignore_errors=True)
        if execution.snapshots:
            outputs.teachers.mkdir(parents=True)


def save_teacher(settings: Settings, task: SegmentationTask, labelled: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write the teacher alone, as a model file."""
    save_model(path, task.predictors()["teacher"], description_of(settings) | {"labelled": labelled})


def description_of(settings: Settings) -> dict[str, Any]:
    """What a model file says of its networks, but for what the training cases say."""
    return settings.model_dump(
        mode="json",
        include={
            *("run", "seed", "method", "network", "rois", "structures"),
            *("patches", "spacing_mm", "window_hu", "mirrors"),
        },
        exclude={"method": {"start_from", "keep_start", "unlabelled_share"}},
    )
