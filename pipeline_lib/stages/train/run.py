"""Stage segmentation: train one method on the partially labelled data sets.

A training that was stopped or killed goes on from its newest checkpoint in work/segmentation/FINGERPRINT/ when the
same command is given again; it ends with the same weights. On all GPUs of a machine, or in one process:

    python -m torch.distributed.run --standalone --nproc-per-node 4 -m pipeline_lib.stages.train.run …
    python -m pipeline_lib.stages.train.run --settings settings.json --execution execution.json \\
        --cases results/volumes/*/cases.csv --existence results/existence/*.parquet \\
        --embeddings results/text/wordllama.safetensors --roi-aware-model results/roi_aware/model.safetensors \\
        --model results/segmentation/RUN/model.safetensors --history results/segmentation/RUN/history.jsonl

`--cases` and `--existence` are given in the order of the settings' data sets.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from ...config.optimisation import Execution
from ...config.stage_settings import ExecutionSettings, SegmentationSettings
from ...data.batches import Views
from ...data.crops import CropPlan, TrainingCase
from ...data.reading import CropReader
from ...data.training_cases import scored_cases
from ...errors import UserError
from ...existence.scores import RoiScorer, load_scorer
from ...existence.thresholds import decision_thresholds
from ...files import RUN_FILE, whole_file, write_json
from ...methods.partial_labels import PartialLabels
from ...networks.build import build_segmentation_network
from ...networks.memory_format import memory_format
from ...networks.model_file import save_model
from ...networks.recomputing import checkpointing
from ...randomness import key_number
from ...text.embeddings import read_embeddings
from ...training.checkpoints import Checkpoints, fingerprint
from ...training.distributed import Processes, joined_processes
from ...training.loop import Material, Names, train
from ..command import stage_command
from ..versions import VERSIONS


@dataclass(frozen=True)
class Inputs:
    """Lists of cases (their volumes lie beside them) and existence scores of the data sets; the ROIs' embeddings.

    The ROI-aware network is needed only where existence.mode is online, its metrics there and for a wanted precision.
    """

    cases: tuple[Path, ...]
    existence: tuple[Path, ...]
    embeddings: Path
    roi_aware_model: Path | None
    roi_aware_metrics: Path | None


@dataclass(frozen=True)
class Outputs:
    """The trained network, and what happened on the way, one line of JSON per few steps."""

    model: Path
    history: Path


def run(settings: SegmentationSettings, execution: ExecutionSettings, inputs: Inputs, outputs: Outputs) -> None:
    """Train `settings.method` to the end of its schedule and write the network."""
    with joined_processes(execution.execution) as processes:
        checkpoints = Checkpoints(work_folder(settings, inputs))
        if processes.first:
            write_json(checkpoints.folder / RUN_FILE, {"run": settings.run})
        cases = training_cases(settings, inputs)
        task = segmentation_task(settings, execution.execution, inputs, processes)
        history = train(
            task,
            material(settings, cases, processes),
            settings.optimisation,
            execution.execution,
            processes,
            checkpoints,
            Names(f"segmentation {settings.run}", "segmentation", "execution"),
        )
        if processes.first:
            save(settings, task, outputs)
            with whole_file(outputs.history) as partial:
                shutil.copyfile(history, partial)
            checkpoints.remove()


def work_folder(settings: SegmentationSettings, inputs: Inputs) -> Path:
    """Where this training keeps its checkpoints: a name of its own for all that it depends on."""
    files = [*inputs.cases, *inputs.existence, inputs.embeddings]
    online = settings.existence.mode == "online"
    if online and inputs.roi_aware_model is not None:
        files.append(inputs.roi_aware_model)
    if (online or settings.method.wanted_precision is not None) and inputs.roi_aware_metrics is not None:
        files.append(inputs.roi_aware_metrics)
    return Path("work") / "segmentation" / fingerprint(settings, files, VERSIONS["segmentation"])


def training_cases(settings: SegmentationSettings, inputs: Inputs) -> tuple[TrainingCase, ...]:
    """The cases of all data sets with their pools and existence scores."""
    folders = [path.parent for path in inputs.cases]
    return scored_cases(settings.cases, settings.labelled, settings.rois, folders, inputs.existence)


def material(settings: SegmentationSettings, cases: tuple[TrainingCase, ...], processes: Processes) -> Material:
    """Which crops are learned from, and how they look."""
    patch = settings.patches.shape
    plan = CropPlan.of(cases, settings.optimisation, settings.seed)
    return Material(
        plan,
        CropReader(cases, plan, patch, settings.augmentation.weak),
        Views(
            settings.augmentation.weak,
            settings.augmentation.strong,
            patch,
            settings.window_hu,
            settings.seed,
            processes.device,
        ),
    )


def segmentation_task(
    settings: SegmentationSettings, execution: Execution, inputs: Inputs, processes: Processes
) -> PartialLabels:
    """The student with its seeded first weights, its teacher and losses."""
    torch.manual_seed(key_number("first weights", settings.seed) % 2**63)
    embeddings = read_embeddings(inputs.embeddings, settings.rois)
    recomputed = checkpointing(execution, processes.device)
    student = build_segmentation_network(
        settings.method, settings.networks, embeddings, recomputed, execution.fused_head
    )
    student = student.to(processes.device, memory_format=memory_format(execution, student, processes.device))
    scorer = online_scorer(settings, inputs, processes) if settings.method.needs_existence else None
    thresholds = decision_thresholds(
        settings.method, settings.structures, inputs.roi_aware_metrics, settings.existence.calibration
    ).to(processes.device)
    return PartialLabels(
        student, settings.method, thresholds, settings.teacher, settings.rois, settings.structures, scorer
    )


def online_scorer(settings: SegmentationSettings, inputs: Inputs, processes: Processes) -> RoiScorer | None:
    """The ROI-aware network where it scores x_T in every step; None where the pools' scores are used."""
    if settings.existence.mode == "cached":
        return None
    if inputs.roi_aware_model is None:
        raise UserError("existence.mode", "is online, which needs the ROI-aware network", "give it as input")
    return load_scorer(
        inputs.roi_aware_model,
        inputs.roi_aware_metrics,
        settings.structures,
        settings.existence,
        processes.device,
        average_flips=False,
    )


def save(settings: SegmentationSettings, task: PartialLabels, outputs: Outputs) -> None:
    """Write the student, and the teacher where there is one, with all that is needed to use them."""
    description = settings.model_dump(
        mode="json", include={"run", "seed", "method", "networks", "rois", "patches", "spacing_mm", "window_hu"}
    )
    save_model(outputs.model, task.student, description, None if task.teacher is None else task.teacher.network)


if __name__ == "__main__":
    stage_command(run, SegmentationSettings, Inputs, Outputs, execution=ExecutionSettings)
