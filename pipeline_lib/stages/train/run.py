"""Train one method on the partially labelled data sets.

A training that was stopped or killed resumes from its newest checkpoint in work/train/FINGERPRINT/ when the same
command is given again, and ends with the same weights. A finished one is kept in models/train/FINGERPRINT/ and restored
from there. On all GPUs of a machine, or in one process:

    python -m torch.distributed.run --standalone --nproc-per-node 4 -m pipeline_lib.stages.train.run …
    python -m pipeline_lib.stages.train.run --settings settings.json --execution execution.json \\
        --cases results/volumes/*/cases.csv --existence results/existence/*.parquet \\
        --embeddings results/text/wordllama.safetensors --roi-aware-model results/roi_aware/model.safetensors \\
        --model results/segmentation/RUN/model.safetensors --history results/segmentation/RUN/history.jsonl

`--cases` and `--existence` are given in the order of the settings' data sets.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from ...data.batches import ViewMaker
from ...data.crops import CropPlan, TrainingCase
from ...data.reading import CropReader
from ...data.training_cases import scored_cases
from ...errors import UserError
from ...existence.scores import RoiScorer, load_scorer
from ...existence.thresholds import decision_thresholds
from ...files import atomic_write, file_digest, fingerprint
from ...methods.partial_labels import PartialLabels
from ...networks.build import build_segmentation_network
from ...networks.memory_format import memory_format
from ...networks.model_file import save_model
from ...networks.recomputing import checkpointing
from ...randomness import key_number
from ...text.embeddings import read_embeddings
from ...training.checkpoints import Checkpoints
from ...training.distributed import Distributed, init_distributed
from ...training.folder_lock import locked_folder
from ...training.identity import Identity
from ...training.loop import TrainingData, train
from ...training.model_store import ModelStore
from ..command import stage_command
from ..resample.settings import VERSION as VOLUMES_VERSION
from .settings import VERSION, Execution, Inputs, Outputs, Settings


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Train `settings.method` to the end of its schedule and write the network, unless it is kept already."""
    title = f"train {settings.run}"
    cases = training_cases(settings, inputs)
    identity = training_identity(settings, cases, inputs)
    store = ModelStore("train", identity, title)
    checkpoints = Checkpoints(Path("work") / "train" / identity.fingerprint)
    with (
        init_distributed(execution) as distributed,
        locked_folder(checkpoints.folder, distributed, title),
    ):
        if store.restored(distributed, [outputs.model, outputs.history]):
            return
        task = segmentation_task(settings, execution, inputs, distributed)
        history = train(
            task,
            training_data(settings, cases, distributed),
            settings.optimisation,
            execution,
            distributed,
            checkpoints,
            title=title,
            optimisation_key="segmentation",
            execution_key="execution",
        )
        if distributed.is_main:
            save(settings, task, outputs)
            with atomic_write(outputs.history) as partial:
                shutil.copyfile(history, partial)
            store.keep([outputs.model, outputs.history])
            checkpoints.remove()


def training_identity(settings: Settings, cases: tuple[TrainingCase, ...], inputs: Inputs) -> Identity:
    """Everything that this training depends on. The run's name is not, nor are data sets without training cases."""
    embeddings = read_embeddings(inputs.embeddings, settings.rois)
    learned_from = {"embeddings": fingerprint(embeddings.numpy().tobytes())}
    online = settings.existence.mode == "online"
    if online and inputs.roi_aware_model is not None:
        learned_from["ROI-aware model"] = file_digest(inputs.roi_aware_model)
    if (online or settings.method.wanted_precision is not None) and inputs.roi_aware_metrics is not None:
        learned_from["ROI-aware metrics"] = file_digest(inputs.roi_aware_metrics)
    version = f"{VERSION}, volumes {VOLUMES_VERSION}"
    # The cases' own contents stand for `cases` and `labelled`.
    return Identity.from_training(settings, ("run", "cases", "labelled"), cases, learned_from, version)


def training_cases(settings: Settings, inputs: Inputs) -> tuple[TrainingCase, ...]:
    """The cases of all data sets with their pools, and with their existence scores where the training uses them."""
    folders = [path.parent for path in inputs.cases]
    cases = scored_cases(settings.cases, settings.labelled, settings.rois, folders, inputs.existence)
    if settings.method.needs_existence and settings.existence.mode == "cached":
        return cases
    return tuple(replace(case, scores=None) for case in cases)


def training_data(settings: Settings, cases: tuple[TrainingCase, ...], distributed: Distributed) -> TrainingData:
    """Which crops are learned from, and how they look."""
    patch, augmentation = settings.patches.shape, settings.augmentation
    plan = CropPlan.from_cases(cases, settings.optimisation, settings.seed)
    view_maker = ViewMaker(augmentation.strong, patch, settings.window_hu, settings.seed, distributed.device)
    return TrainingData(plan, CropReader(cases, plan, patch, augmentation.weak), view_maker)


def segmentation_task(
    settings: Settings, execution: Execution, inputs: Inputs, distributed: Distributed
) -> PartialLabels:
    """The student with its seeded first weights, its teacher and losses."""
    torch.manual_seed(key_number("first weights", settings.seed) % 2**63)
    embeddings = read_embeddings(inputs.embeddings, settings.rois)
    recomputed = checkpointing(execution, distributed.device)
    student = build_segmentation_network(
        settings.method, settings.networks, embeddings, recomputed, execution.fused_head
    )
    student = student.to(distributed.device, memory_format=memory_format(execution, student, distributed.device))
    scorer = online_scorer(settings, inputs, distributed) if settings.method.needs_existence else None
    thresholds = decision_thresholds(
        settings.method, settings.structures, inputs.roi_aware_metrics, settings.existence.calibration
    ).to(distributed.device)
    return PartialLabels(
        student, settings.method, thresholds, settings.teacher, settings.rois, settings.structures, scorer
    )


def online_scorer(settings: Settings, inputs: Inputs, distributed: Distributed) -> RoiScorer | None:
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
        distributed.device,
        average_flips=False,
    )


def save(settings: Settings, task: PartialLabels, outputs: Outputs) -> None:
    """Write the student, and the teacher where there is one, with all that is needed to use them."""
    description = settings.model_dump(
        mode="json", include={"run", "seed", "method", "networks", "rois", "patches", "spacing_mm", "window_hu"}
    )
    save_model(outputs.model, task.student, description, None if task.teacher is None else task.teacher.network)


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
