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
from torch import nn

from ...config.optimisation import Execution
from ...config.stage_settings import ExecutionSettings, SegmentationSettings
from ...data.batches import Views
from ...data.crops import CropPlan, TrainingCase
from ...data.reading import CropReader
from ...data.training_cases import scored_cases
from ...errors import UserError
from ...existence.scores import RoiScorer, load_scorer
from ...files import whole_file
from ...methods.build import build_task
from ...methods.segmentation_task import Ingredients, SegmentationTask
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

    The ROI-aware network is needed only where existence.mode is online.
    """

    cases: tuple[Path, ...]
    existence: tuple[Path, ...]
    embeddings: Path
    roi_aware_model: Path | None


@dataclass(frozen=True)
class Outputs:
    """The trained network, and what happened on the way, one line of JSON per few steps."""

    model: Path
    history: Path


def run(settings: SegmentationSettings, execution: ExecutionSettings, inputs: Inputs, outputs: Outputs) -> None:
    """Train `settings.method` to the end of its schedule and write the network."""
    with joined_processes(execution.execution) as processes:
        checkpoints = Checkpoints(work_folder(settings, inputs))
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
    if settings.existence.mode == "online" and inputs.roi_aware_model is not None:
        files.append(inputs.roi_aware_model)
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
) -> SegmentationTask:
    """The task of the method: its networks with their seeded first weights, its teacher and its losses."""
    torch.manual_seed(key_number("first weights", settings.seed) % 2**63)
    embeddings = read_embeddings(inputs.embeddings, settings.rois)

    def new_network() -> nn.Module:
        recomputed = checkpointing(execution, processes.device)
        network = build_segmentation_network(
            settings.network, embeddings, settings.rois, recomputed, execution.fused_head
        )
        return network.to(processes.device, memory_format=memory_format(execution, network, processes.device))

    ingredients = Ingredients(
        new_network=new_network,
        rois=settings.rois,
        structures=settings.structures,
        teacher=settings.teacher,
        scorer=online_scorer(settings, inputs, processes) if settings.method.needs_existence else None,
    )
    return build_task(settings.method, ingredients)


def online_scorer(settings: SegmentationSettings, inputs: Inputs, processes: Processes) -> RoiScorer | None:
    """The ROI-aware network where it scores x_T in every step; None where the pools' scores are used."""
    if settings.existence.mode == "cached":
        return None
    if inputs.roi_aware_model is None:
        raise UserError("existence.mode", "is online, which needs the ROI-aware network", "give it as input")
    return load_scorer(inputs.roi_aware_model, settings.structures, processes.device)


def save(settings: SegmentationSettings, task: SegmentationTask, outputs: Outputs) -> None:
    """Write the student, and the teacher if there is one, with all that is needed to use them."""
    description = settings.model_dump(
        mode="json", include={"run", "seed", "method", "network", "rois", "patches", "spacing_mm", "window_hu"}
    )
    predictors = task.predictors()
    save_model(outputs.model, predictors["student"], description, predictors.get("teacher"))


if __name__ == "__main__":
    stage_command(run, SegmentationSettings, Inputs, Outputs, execution=ExecutionSettings)
