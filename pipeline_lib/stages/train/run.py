"""Train one method on the partially labelled data sets.

A training that was stopped or killed resumes from its newest checkpoint in work/train/FINGERPRINT/ when the same
command is given again, and ends with the same weights (training/loop.py says how exactly). A finished one is kept in
models/train/FINGERPRINT/ and restored from there. On all GPUs of a machine, or in one process:

    python -m torch.distributed.run --standalone --nproc-per-node 4 -m pipeline_lib.stages.train.run …
    python -m pipeline_lib.stages.train.run --settings settings.json --execution execution.json \\
        --cases results/volumes/*/cases.csv --existence results/existence/*.parquet \\
        --embeddings results/embeddings/wordllama.safetensors \\
        --roi-aware-model results/roi_aware_network/model.safetensors \\
        --model results/models/RUN/model.safetensors --history results/models/RUN/history.jsonl

`--cases` and `--existence` are given in the order of the settings' data sets.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...config.evaluation import Prediction, PredictionExecution
from ...config.method_settings import UNLABELLED_SHARE
from ...config.optimisation import Execution
from ...config.sides import partner_indices
from ...data.batches import ViewMaker
from ...data.crops import CropPlan, TrainingCase
from ...data.reading import CropReader
from ...data.training_cases import scored_cases, validation_cases
from ...errors import UserError
from ...files import RUN_FILE, atomic_write, file_digest, fingerprint, write_json
from ...methods.build import build_task
from ...methods.segmentation_task import Ingredients, SegmentationTask
from ...networks.build import build_segmentation_network
from ...networks.memory_format import memory_format
from ...networks.recomputing import checkpointing
from ...prediction.windows import sliding_window
from ...progress import say
from ...randomness import key_number
from ...text.embeddings import read_embeddings
from ...training.checkpoints import Checkpoints
from ...training.distributed import Distributed, init_distributed
from ...training.folder_lock import locked_training
from ...training.identity import Identity, case_fingerprint
from ...training.loop import TrainingData, train
from ...training.model_store import ModelStore
from ...training.snapshots import Snapshots
from ...training.validation import Validation
from ..command import stage_command
from ..resample.settings import VERSION as VOLUMES_VERSION
from .crops import crop_plan, limit_in_words, say_what_is_learned_from
from .parts import check_samples_together, divisible, with_parts
from .saving import clean_teachers_folder, description_of, save, save_teacher, teacher_files
from .settings import VERSION, Inputs, Outputs, Settings, TrainingExecution
from .start import checked_start, labelled_by_start, online_scorer, start_digest

START = "start_from"
"""Part of a training's identity: the digest of the file that it starts from."""


def run(settings: Settings, execution: TrainingExecution, inputs: Inputs, outputs: Outputs) -> None:
    """Train `settings.method` to the end of its schedule and write the network, unless it is kept already."""
    title = f"train {settings.run}"
    teachers = teacher_files(settings, execution, outputs)
    cases = training_cases(settings, inputs)
    identity = training_identity(settings, cases, inputs)
    store = ModelStore("train", identity, title)
    checkpoints = Checkpoints(Path("work") / "train" / identity.fingerprint)
    with (
        init_distributed(execution) as distributed,
        locked_training(checkpoints.folder, settings.run, distributed, title),
    ):
        clean_teachers_folder(execution, outputs, distributed)
        if store.restored(distributed, [outputs.model, outputs.history, *teachers]):
            return
        check_samples_together(settings.method, execution.parts, distributed)
        sized = with_parts(settings, execution, distributed, title)
        if distributed.is_main:
            write_json(checkpoints.folder / RUN_FILE, {"run": settings.run})
            say_what_is_learned_from(settings, execution, cases, title)
        labelled = rois_of_data_sets(settings, cases)
        task = segmentation_task(settings, sized, inputs, labelled, distributed)
        data = labelled_by_start(training_data(settings, cases, distributed), settings, distributed)
        snapshots = Snapshots(
            execution.snapshots if teachers else (),
            data.plan.steps,
            checkpoints.folder / "teachers",
            partial(save_teacher, settings, task, labelled),
        )
        history = train(
            task,
            data,
            settings.optimisation,
            sized,
            distributed,
            checkpoints,
            title=title,
            optimisation_key="segmentation",
            execution_key="execution",
            divisible=divisible(settings.method),
            validation=validation_of(settings, sized, inputs, task, data.plan, distributed),
            snapshots=snapshots,
        )
        if distributed.is_main:
            save(settings, task, labelled, outputs, identity.parts.get(START))
            taken = {made: source for source, made in zip(snapshots.files, teachers, strict=True) if source.is_file()}
            finished = {outputs.history: history, **taken}
            for made, source in finished.items():
                with atomic_write(made) as unfinished:
                    shutil.copyfile(source, unfinished)
            is_kept = store.keep([outputs.model, *finished])
            snapshots.check(data.plan.steps)
            if is_kept:
                checkpoints.remove()


def training_identity(settings: Settings, cases: tuple[TrainingCase, ...], inputs: Inputs) -> Identity:
    """Everything that this training depends on.

    The run's name is not part of it, nor are data sets without training cases, nor where the start model lies, nor
    embeddings that the network does not read, nor how much of the time validations may take, nor a share of cases
    without labels that leaves room for all of them.
    """
    embeddings = read_embeddings(inputs.embeddings, settings.rois)
    # A checkpoint has the embeddings too, so that only those of the same shape can resume from it.
    read = embeddings.numpy().tobytes() if settings.network.reads_embeddings else str(tuple(embeddings.shape))
    learned_from = {"embeddings": fingerprint(read)}
    if settings.existence.mode == "online" and inputs.roi_aware_model is not None:
        learned_from["ROI-aware model"] = file_digest(inputs.roi_aware_model)
    if (limit := limit_in_words(settings, cases)) is not None:
        # Earlier versions kept models that learned from every case once in each epoch.
        learned_from["cases without labels"] = limit
    # Where the share has no effect, it is not part of the training; where it has, `limit` is.
    any_share = settings.method.model_copy(update={"unlabelled_share": UNLABELLED_SHARE})
    settings = settings.model_copy(update={"method": any_share})
    if settings.method.start_from is not None:
        learned_from[START] = start_digest(settings.method.start_from)
        if settings.method.keeps_start:
            # Earlier versions kept models that learned without these labels, under what is otherwise the same name.
            learned_from["labels of the start model"] = "its masks"
        anywhere = settings.method.model_copy(update={"start_from": None, "keep_start": True})
        settings = settings.model_copy(update={"method": anywhere})
    settings = settings.model_copy(update={"validation": settings.validation.that_tells_trainings_apart})
    if settings.held_out:
        learned_from["held-out cases"] = fingerprint(*map(case_fingerprint, held_out_cases(settings, inputs)))
    version = f"{VERSION}, volumes {VOLUMES_VERSION}"
    if settings.method.revision > 1:
        version += f", {settings.method.kind} {settings.method.revision}"
    # The cases' own contents stand for `cases`, `held_out` and `labelled`.
    return Identity.from_training(settings, ("run", "cases", "held_out", "labelled"), cases, learned_from, version)


def training_cases(settings: Settings, inputs: Inputs) -> tuple[TrainingCase, ...]:
    """The cases of all data sets with their pools, and with their existence scores where the training uses them."""
    folders = [path.parent for path in inputs.cases]
    cases = scored_cases(settings.cases, settings.labelled, settings.rois, folders, inputs.existence)
    if settings.method.needs_existence and settings.existence.mode == "cached":
        return cases
    return tuple(replace(case, scores=None) for case in cases)


def held_out_cases(settings: Settings, inputs: Inputs) -> tuple[TrainingCase, ...]:
    """The cases of all data sets that only validation uses."""
    folders = {dataset: path.parent for dataset, path in zip(settings.cases, inputs.cases, strict=True)}
    return validation_cases(settings.held_out, settings.labelled, settings.rois, folders)


def validation_of(
    settings: Settings,
    execution: Execution,
    inputs: Inputs,
    task: SegmentationTask,
    plan: CropPlan,
    distributed: Distributed,
) -> Validation | None:
    """How the held-out cases are predicted while the task's networks train; None if there are none."""
    if not settings.held_out:
        return None
    how = settings.validation
    windows = Prediction(overlap=how.overlap), PredictionExecution(precision=execution.precision)
    return Validation(
        task.predictors(),
        held_out_cases(settings, inputs),
        settings.rois,
        sliding_window(*windows, description_of(settings), distributed.device),
        plan,
        every_epochs=how.every_epochs,
        keep_best=how.keep == "best",
        max_time_share=how.max_time_share,
    )


def training_data(settings: Settings, cases: tuple[TrainingCase, ...], distributed: Distributed) -> TrainingData:
    """Which crops are learned from, and how they look."""
    patch, augmentation = settings.patches.shape, settings.augmentation
    plan = crop_plan(settings, cases)
    view_maker = ViewMaker(augmentation.strong, patch, settings.window_hu, settings.seed, distributed.device)
    partners = partner_indices(settings.rois, settings.mirrors)
    return TrainingData(plan, CropReader(cases, plan, patch, augmentation.weak, partners), view_maker)


def segmentation_task(
    settings: Settings,
    execution: Execution,
    inputs: Inputs,
    labelled: Mapping[str, Sequence[str]],
    distributed: Distributed,
) -> SegmentationTask:
    """The task of the method: its networks with their seeded first weights, its teacher and its losses.

    `labelled` are the ROIs of each data set (`rois_of_data_sets`).
    """
    embeddings = read_embeddings(inputs.embeddings, settings.rois)
    start = checked_start(settings, embeddings)
    if start is not None and distributed.is_main:
        say(f"train {settings.run}: starts from {start.taken}")
    torch.manual_seed(key_number("first weights", settings.seed) % 2**63)

    def new_network() -> nn.Module:
        recomputed = checkpointing(execution, distributed.device)
        network = build_segmentation_network(
            settings.network,
            embeddings,
            settings.rois,
            recomputed,
            execution.fused_head,
            list(labelled.values()),
            settings.patches.shape,
        )
        if start is not None:
            start.load_into(network)
        return network.to(distributed.device, memory_format=memory_format(execution, network, distributed.device))

    # A teacher that is a trained model is not young: it would lose what it knows in a few updates.
    trained = start is not None and start.model is not None
    ingredients = Ingredients(
        new_network=new_network,
        rois=settings.rois,
        structures=settings.structures,
        teacher=settings.teacher.model_copy(update={"fast_start": False}) if trained else settings.teacher,
        scorer=online_scorer(settings, inputs, start, distributed) if settings.method.needs_existence else None,
        datasets=tuple(labelled),
        seed=settings.seed,
    )
    return build_task(settings.method, ingredients)


def rois_of_data_sets(settings: Settings, cases: Sequence[TrainingCase]) -> dict[str, tuple[str, ...]]:
    """Data set → the ROIs that its crops label, in the order of all ROIs.

    Those are the ROIs that some training case labels, not all that the data set declares: nothing would train the
    output of another. With flips along x their mirror images are among them.

    Raises UserError if a data set's cases label none and the network has a part for each data set.
    """
    found = {}
    flips = settings.augmentation.weak.flip_probability[0] > 0
    for dataset in settings.cases:
        own_cases = [case.labelled for case in cases if case.dataset == dataset]
        flags = np.any([np.zeros(len(settings.rois), bool), *own_cases], axis=0)
        own = {roi for roi, labelled in zip(settings.rois, flags, strict=True) if labelled}
        own |= {settings.mirrors.get(roi, roi) for roi in own} if flips else set()
        found[dataset] = tuple(roi for roi in settings.rois if roi in own)
        if not own and settings.network.per_data_set:
            wrong = f"wants a part of its own for {dataset}, whose training cases label no ROI"
            raise UserError("per_data_set", wrong, f"leave {dataset} out of `datasets`, or compare other methods")
    return found


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=TrainingExecution)
