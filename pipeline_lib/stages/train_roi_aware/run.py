"""Stage roi_aware: train and evaluate the network that says which structures a patch contains.

It learns from most cases of the fully labelled data set; the others give its metrics. It is
resumable like stage segmentation, and may be started with torchrun as that is. BatchNorm sees one process's part of
the batch at a time, so here (and here alone) the number of processes and parts has a say in the result.

    python -m pipeline_lib.stages.train_roi_aware.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv --model results/roi_aware/model.safetensors \\
        --metrics results/roi_aware/metrics.json --history results/roi_aware/history.jsonl
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config.optimisation import Execution
from ...config.stage_settings import ExecutionSettings, RoiAwareSettings
from ...config.volumes import Patches
from ...data.batches import Views
from ...data.crops import CropPlan, TrainingCase
from ...data.patches import patch_images, voxels_in_patches
from ...data.reading import CropReader
from ...data.training_cases import fully_labelled_cases
from ...errors import UserError
from ...existence.metrics import structure_metrics
from ...existence.presence import StructurePresence
from ...files import whole_file, write_json
from ...networks.build import build_roi_aware_network
from ...networks.memory_format import memory_format
from ...networks.model_file import save_model
from ...progress import Progress
from ...randomness import key_number, random_generator
from ...training.checkpoints import Checkpoints, fingerprint
from ...training.distributed import Processes, joined_processes
from ...training.loop import Material, Names, train
from ...volumes.store import open_volume
from ..command import stage_command
from ..versions import VERSIONS

_AROUND_STRUCTURES = 0.5
"""Share of the patches around a voxel of a structure, each equally often: rare ones are seen, absent ones too."""

_TITLE = "roi_aware"


@dataclass(frozen=True)
class Inputs:
    """The fully labelled data set's list of cases, whose volumes lie beside it."""

    cases: Path


@dataclass(frozen=True)
class Outputs:
    """The trained network, its metrics on held-out cases, and the training's history."""

    model: Path
    metrics: Path
    history: Path


def run(settings: RoiAwareSettings, execution: ExecutionSettings, inputs: Inputs, outputs: Outputs) -> None:
    """Train on the training cases, evaluate on the held-out ones, write both."""
    if execution.execution.gradient_checkpointing == "all":
        wrong = "would have BatchNorm count each batch twice"
        raise UserError("roi_aware.execution.gradient_checkpointing", wrong, "leave it out")
    with joined_processes(execution.execution) as processes:
        work = fingerprint(settings, [inputs.cases], VERSIONS[_TITLE])
        checkpoints = Checkpoints(Path("work") / _TITLE / work)
        learned, held_out = split(settings)
        patches = settings.patches.model_copy(update={"foreground_fraction": _AROUND_STRUCTURES})
        cases = pooled(learned, patches, settings, inputs)
        task = presence_task(settings, execution.execution, processes)
        history = train(
            task,
            material(settings, cases, processes),
            settings.roi_aware.optimisation,
            execution.execution,
            processes,
            checkpoints,
            Names(_TITLE, "roi_aware.optimisation", "roi_aware.execution", recomputes=False),
        )
        if processes.first:
            metrics = evaluate(task, pooled(held_out, patches, settings, inputs), settings, processes.device)
            write_json(outputs.metrics, {"held_out": list(held_out), **metrics})
            description = settings.model_dump(
                mode="json", include={"structures", "roi_aware", "patches", "window_hu", "seed"}
            )
            save_model(outputs.model, task.student, description)
            with whole_file(outputs.history) as partial:
                shutil.copyfile(history, partial)
            checkpoints.remove()


def split(settings: RoiAwareSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the cases to learn from and of those held out; keyed by the seed."""
    cases = sorted(settings.cases)
    held_out_count = math.ceil(settings.roi_aware.held_out_fraction * len(cases))
    if held_out_count >= len(cases):
        raise UserError(
            "roi_aware.held_out_fraction",
            f"{settings.roi_aware.held_out_fraction:g} of {len(cases)} cases leaves none to learn from",
            "lower it or give more cases",
        )
    order = random_generator("held out", settings.seed).permutation(len(cases))
    held_out = {cases[number] for number in order[:held_out_count]}
    return tuple(case for case in cases if case not in held_out), tuple(sorted(held_out))


def pooled(
    names: Sequence[str], patches: Patches, settings: RoiAwareSettings, inputs: Inputs
) -> tuple[TrainingCase, ...]:
    """The cases with their pools of patches."""
    return fully_labelled_cases(names, inputs.cases.parent, settings.structures, patches, settings.seed)


def material(settings: RoiAwareSettings, cases: tuple[TrainingCase, ...], processes: Processes) -> Material:
    """Which crops are learned from: weak views alone, because those are what the network will score."""
    patch = settings.patches.shape
    plan = CropPlan.of(cases, settings.roi_aware.optimisation, settings.seed)
    views = Views(settings.weak, None, patch, settings.window_hu, settings.seed, processes.device)
    return Material(plan, CropReader(cases, plan, patch, settings.weak), views)


def presence_task(settings: RoiAwareSettings, execution: Execution, processes: Processes) -> StructurePresence:
    """The network with its seeded first weights, and its loss."""
    torch.manual_seed(key_number("first weights", settings.seed) % 2**63)
    network = build_roi_aware_network(settings.roi_aware, len(settings.structures)).train()
    network = network.to(processes.device, memory_format=memory_format(execution, network, processes.device))
    return StructurePresence(network, settings.structures, settings.roi_aware.least_voxels)


@torch.no_grad()
def evaluate(
    task: StructurePresence, cases: tuple[TrainingCase, ...], settings: RoiAwareSettings, device: torch.device
) -> dict[str, Any]:
    """Metrics of the trained network on the pooled patches of held-out `cases`."""
    network = task.student.eval()
    shape, batch = settings.patches.shape, settings.roi_aware.optimisation.batch
    progress = Progress("roi_aware: evaluating", len(cases), "cases")
    logits, present = [], []
    for case in cases:
        volume = open_volume(case.folder)
        logits += [
            network(images).float().cpu().numpy() for images in patch_images(volume, case.pool, shape, batch, device)
        ]
        present.append(voxels_in_patches(volume, case.pool, shape) >= settings.roi_aware.least_voxels)
        progress.advance()
    return structure_metrics(settings.structures, np.concatenate(logits), np.concatenate(present))


if __name__ == "__main__":
    stage_command(run, RoiAwareSettings, Inputs, Outputs, execution=ExecutionSettings)
