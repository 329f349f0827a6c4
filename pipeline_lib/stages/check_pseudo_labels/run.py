"""How much of what a method's teacher tells its student is true, over the course of a training?

    python -m pipeline_lib.stages.check_pseudo_labels.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv … --existence results/existence/DATASET.parquet … \\
        --embeddings results/embeddings/ENCODER.safetensors \\
        --roi-aware-model results/roi_aware_network/model.safetensors --teachers results/models/RUN/teachers \\
        --truth resources/truth/DATASET … --table results/pseudo_labels/RUN.csv

`--cases` and `--existence` are given in the order of the settings' data sets. Each snapshot of the teacher sees the
weak views of the training's first crops, with the labels and existence scores that the training had. Nothing is learned
from what this stage makes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config.method_settings import TeacherScheduleSettings
from ...config.optimisation import Execution
from ...data.batches import Batch, unpacked
from ...data.full_truth import with_full_truth
from ...errors import UserError
from ...files import atomic_write
from ...methods.exclusive_organs import Rivals, exclusive_rois
from ...methods.pseudo_labels import counted
from ...methods.taught_student import TaughtStudent
from ...networks.model_file import load_segmentation_model
from ...progress import Progress
from ...reporting.pseudo_label_rates import COUNTS, with_rates
from ...training.distributed import Distributed, init_distributed
from ...training.loop import TrainingData
from ...training.snapshots import snapshot_name, step_at
from ..command import stage_command
from ..train import run as training_stage
from ..train import settings as train
from ..train.start import labelled_by_start
from .settings import Inputs, Outputs, Settings

_CROPS = 128
"""How many of a training's first samples are compared, but for those of data sets without a full truth."""

_Sums = dict[tuple[str, str, int], NDArray[np.int64]]
"""Data set, decision and ROI → the sums of COUNTS, and those of `Counts.inside` for each ROI."""


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Compare the pseudo labels of every snapshot with the full truth of the data sets that have one."""
    training = settings.training
    check_teacher(training)
    check_snapshots(settings, inputs.teachers)
    given = train.Inputs(inputs.cases, inputs.existence, inputs.embeddings, inputs.roi_aware_model)
    cases = training_stage.training_cases(training, given)
    folders, title = {folder.name: folder for folder in inputs.truth}, f"check_pseudo_labels {training.run}"
    with init_distributed(execution) as distributed, TemporaryDirectory(prefix="lacuna-") as scratch:
        labelled = training_stage.rois_of_data_sets(training, cases)
        task = training_stage.segmentation_task(training, execution, given, labelled, distributed)
        true_cases = with_full_truth(cases, folders, Path(scratch), f"{title}: truth")
        seen, true = (training_stage.training_data(training, each, distributed) for each in (cases, true_cases))
        seen = labelled_by_start(seen, training, distributed)
        known = [case.dataset in folders for case in cases]
        samples = range(min(_CROPS, seen.plan.steps * seen.plan.batch_size))
        crops = Crops(seen, true, [sample for sample in samples if known[seen.plan.crop(sample).case]])
        assert isinstance(task, TaughtStudent)
        rows = list(table_rows(settings, task, crops, inputs.teachers, distributed, title))
    if not rows:
        wrong = f"the first {len(samples)} crops of the training leave no ROI open where the full truth is known"
        raise UserError(training.run, wrong, "let it learn from phantoms that do not label every ROI")
    with atomic_write(outputs.table) as partial:
        with_rates(pd.DataFrame(rows)).to_csv(partial, index=False, float_format="%.6g")


def check_teacher(training: train.Settings) -> None:
    """UserError if no teacher teaches."""
    if not isinstance(training.method, TeacherScheduleSettings):
        raise UserError(training.run, "is a training in which no teacher teaches", "name one of another method")


def check_snapshots(settings: Settings, teachers: Path) -> None:
    """UserError if the training has not kept its teacher after every share: some were added after it."""
    if missing := [share for share in settings.snapshots if not (teachers / snapshot_name(share)).is_file()]:
        shares = ", ".join(f"{share:g}" for share in missing)
        wrong = f"{settings.training.run} has not kept its teacher after {shares} of the training"
        remedy = "train again (snakemake pseudo_labels --forcerun train), or remove those shares"
        raise UserError("pseudo_labels.snapshots", wrong, remedy)


@dataclass(frozen=True, eq=False)
class Crops:
    """The chosen `samples` of a training as it sees them, and the same with the full truth as their labels."""

    seen: TrainingData
    true: TrainingData
    samples: Sequence[int]

    def batches(self, size: int) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of at most `size` samples, and the truth of each, bool B K D H W."""
        for first in range(0, len(self.samples), size):
            chosen = self.samples[first : first + size]
            seen, true = (_weak_views(data, chosen) for data in (self.seen, self.true))
            yield seen, unpacked(true.planes, true.labelled.shape[1])


def table_rows(
    settings: Settings,
    task: TaughtStudent,
    crops: Crops,
    teachers: Path,
    distributed: Distributed,
    title: str,
) -> Iterator[dict[str, Any]]:
    """One row per snapshot, data set, decision and ROI: its counts."""
    training, steps = settings.training, crops.seen.plan.steps
    rivals = exclusive_rois(training.structures)
    columns = (*COUNTS, *(f"inside_{roi}" for roi in training.rois))
    progress = Progress(title, len(settings.snapshots) * len(crops.samples), "crops")
    for share in settings.snapshots:
        teacher, _ = load_segmentation_model(teachers / snapshot_name(share), distributed.device)
        # The teacher alone: a snapshot has nothing else of what a checkpoint holds.
        task.teacher.load_state_dict({"teacher": teacher.state_dict(), "updates": 0})
        sums: _Sums = defaultdict(lambda: np.zeros(len(columns), np.int64))
        for batch, truth in crops.batches(training.optimisation.batch_size):
            _add(sums, task, batch, truth, rivals)
            progress.advance(len(batch.names))
        # 0 in the warm-up.
        when = {"snapshot": share, "step": step_at(share, steps), "weight": task.teacher_weight(share)}
        for dataset, decision, roi in sorted(sums):
            who = {"run": training.run, "dataset": dataset, "roi": training.rois[roi], "decision": decision}
            yield {**who, **when, **dict(zip(columns, sums[dataset, decision, roi].tolist(), strict=True))}


def _weak_views(data: TrainingData, samples: Sequence[int]) -> Batch:
    weak = replace(data.view_maker, strong=None)
    return weak.batch([data.reader.read(sample) for sample in samples])


def _add(sums: _Sums, task: TaughtStudent, batch: Batch, truth: Tensor, rivals: Rivals) -> None:
    """Add what the batch's pseudo labels hold to `sums`."""
    pseudo = task.pseudo_labels(batch)
    counts = counted(pseudo, truth, batch, rivals)
    voxels = torch.stack([counts.predicted, counts.true, counts.true_positives, counts.in_rivals], dim=2)
    values = torch.cat([voxels, counts.inside], dim=2).cpu().numpy()
    for decision, decided in pseudo.decisions.items():
        for sample, roi in decided.nonzero().tolist():
            present = int(values[sample, roi, 1] > 0)
            sums[batch.datasets[sample], decision, roi] += np.array([1, present, *values[sample, roi]])


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
