"""Train and evaluate the network that says which structures a patch contains.

It learns from most cases of the fully labelled data set; the others give its metrics. It resumes,
is kept in models/train_roi_aware/FINGERPRINT/, and may be started with torchrun, like stage train. BatchNorm sees one
part of one rank's batch at a time, so here (and only here) the number of ranks and parts changes the result.

    python -m pipeline_lib.stages.train_roi_aware.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv --model results/roi_aware_network/model.safetensors \\
        --metrics results/roi_aware_network/metrics.json --history results/roi_aware_network/history.jsonl
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...config.sides import partner_indices
from ...config.volumes import Patches
from ...data.batches import ViewMaker
from ...data.crops import CropPlan, TrainingCase
from ...data.patches import patch_images, presence_in_patches
from ...data.reading import CropReader
from ...data.training_cases import fully_labelled_cases
from ...errors import UserError
from ...existence.metrics import structure_metrics
from ...existence.presence import StructurePresence
from ...files import RUN_FILE, atomic_write, fingerprint, write_json
from ...networks.build import build_roi_aware_network
from ...networks.memory_format import memory_format
from ...networks.model_file import save_model
from ...progress import Progress
from ...randomness import key_number, random_generator
from ...training.checkpoints import Checkpoints
from ...training.distributed import Distributed, init_distributed
from ...training.folder_lock import locked_training
from ...training.identity import Identity, case_fingerprint
from ...training.loop import TrainingData, train
from ...training.model_store import ModelStore
from ...volumes.store import open_volume
from ..command import stage_command
from ..resample.settings import VERSION as VOLUMES_VERSION
from .settings import VERSION, Execution, Inputs, Outputs, Settings

_AROUND_STRUCTURES = 0.5
"""Share of the patches around a voxel of a structure, each equally often: rare ones are seen, absent ones too."""

_RUN = "roi_aware_network"
_TITLE = "train_roi_aware"


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Train on the training cases, evaluate on the held-out ones, write both."""
    if execution.gradient_checkpointing == "all":
        wrong = "would have BatchNorm count each batch twice"
        raise UserError("roi_aware.execution.gradient_checkpointing", wrong, "leave it out")
    learned, held_out = split(settings)
    patches = settings.patches.model_copy(update={"foreground_fraction": _AROUND_STRUCTURES})
    cases, judged = (pooled(names, patches, settings, inputs) for names in (learned, held_out))
    identity = training_identity(settings, cases, judged)
    store = ModelStore("train_roi_aware", identity, _TITLE)
    checkpoints = Checkpoints(Path("work") / "train_roi_aware" / identity.fingerprint)
    made = [outputs.model, outputs.metrics, outputs.history]
    with (
        init_distributed(execution) as distributed,
        locked_training(checkpoints.folder, _RUN, distributed, _TITLE),
    ):
        if store.restored(distributed, made):
            return
        if distributed.is_main:
            write_json(checkpoints.folder / RUN_FILE, {"run": _RUN})
        task = presence_task(settings, execution, distributed)
        history = train(
            task,
            training_data(settings, cases, distributed),
            settings.roi_aware.optimisation,
            execution,
            distributed,
            checkpoints,
            title=_TITLE,
            optimisation_key="roi_aware.optimisation",
            execution_key="roi_aware.execution",
            can_checkpoint=False,
            divisible=False,
        )
        if distributed.is_main:
            metrics = evaluate(task, judged, settings, distributed.device)
            write_json(outputs.metrics, {"held_out": list(held_out), **metrics})
            description = settings.model_dump(
                mode="json", include={"structures", "roi_aware", "patches", "window_hu", "seed"}
            )
            save_model(outputs.model, task.student, description)
            with atomic_write(outputs.history) as partial:
                shutil.copyfile(history, partial)
            if store.keep(made):
                checkpoints.remove()


def training_identity(
    settings: Settings, cases: tuple[TrainingCase, ...], held_out: tuple[TrainingCase, ...]
) -> Identity:
    """Everything that the model and its metrics depend on; the cases' own contents stand for their names."""
    version = f"{VERSION}, volumes {VOLUMES_VERSION}"
    judged = {"held-out cases": fingerprint(*map(case_fingerprint, held_out))}
    return Identity.from_training(settings, ("dataset", "cases"), cases, judged, version)


def split(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the cases to learn from and of those held out; keyed by the seed."""
    cases = sorted(settings.cases)
    held_out_count = settings.roi_aware.held_out_cases(len(cases))
    if held_out_count >= len(cases):
        raise UserError(
            "roi_aware.held_out_fraction",
            f"{settings.roi_aware.held_out_fraction:g} of {len(cases)} cases leaves none to learn from",
            "lower it or give more cases",
        )
    order = random_generator("held out", settings.seed).permutation(len(cases))
    held_out = {cases[index] for index in order[:held_out_count]}
    return tuple(case for case in cases if case not in held_out), tuple(sorted(held_out))


def pooled(names: Sequence[str], patches: Patches, settings: Settings, inputs: Inputs) -> tuple[TrainingCase, ...]:
    """The cases with their pools of patches."""
    return fully_labelled_cases(names, inputs.cases.parent, settings.structures, patches, settings.seed)


def training_data(settings: Settings, cases: tuple[TrainingCase, ...], distributed: Distributed) -> TrainingData:
    """Which crops are learned from: weak views alone, because those are what the network will score."""
    patch = settings.patches.shape
    plan = CropPlan.from_cases(cases, settings.roi_aware.optimisation, settings.seed)
    view_maker = ViewMaker(None, patch, settings.window_hu, settings.seed, distributed.device)
    partners = partner_indices(settings.structures, settings.mirrors)
    return TrainingData(plan, CropReader(cases, plan, patch, settings.weak, partners), view_maker)


def presence_task(settings: Settings, execution: Execution, distributed: Distributed) -> StructurePresence:
    """The network with its seeded first weights, and its loss."""
    torch.manual_seed(key_number("first weights", settings.seed) % 2**63)
    network = build_roi_aware_network(settings.roi_aware, len(settings.structures)).train()
    network = network.to(distributed.device, memory_format=memory_format(execution, network, distributed.device))
    return StructurePresence(network, settings.structures, settings.roi_aware.least_voxels)


@torch.no_grad()
def evaluate(
    task: StructurePresence, cases: tuple[TrainingCase, ...], settings: Settings, device: torch.device
) -> dict[str, Any]:
    """Metrics of the trained network on the pooled patches of held-out `cases`."""
    network = task.student.eval()
    shape, batch = settings.patches.shape, settings.roi_aware.optimisation.batch_size
    progress = Progress("train_roi_aware: evaluating", len(cases), "cases")
    logits, present, known = [], [], []
    for case in cases:
        volume = open_volume(case.folder)
        logits += [
            network(images).float().cpu().numpy() for images in patch_images(volume, case.pool, shape, batch, device)
        ]
        there, told = presence_in_patches(volume, case.pool, shape, settings.roi_aware.least_voxels)
        present.append(there)
        known.append(told)
        progress.advance()
    return structure_metrics(settings.structures, *map(np.concatenate, (logits, present, known)))


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
