"""Compare one run's predictions with the ground truth, per case and ROI, on the original grids.

    python -m pipeline_lib.stages.score.run --settings settings.json \\
        --predictions results/predictions/RUN/DATASET … \\
        --truth resources/truth/DATASET … --scores results/scores/RUN.csv --confusion results/confusion/RUN.csv

The truth of a data set is its folder of full truth where `scores.truth` is full, else the manifest of its raw folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...config.datasets import Dataset
from ...datasets.readers import case_files, read_labels
from ...errors import UserError
from ...files import atomic_write
from ...geometry import Geometry
from ...label_bits import read_roi_bits, roi_mask, roi_names
from ...progress import Progress
from ...scoring.case_scores import columns, score_roi
from ...scoring.case_truth import CaseTruth, TruthBuilder, families
from ...scoring.confusion import Confusion, confusion
from ..command import stage_command
from .settings import Inputs, Outputs, Settings

CONFUSION_COLUMNS = ["run", "dataset", "case", *Confusion._fields]
"""Columns of results/confusion/RUN.csv."""


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """Score every predicted case of every data set.

    Raises UserError where a prediction and its truth do not lie on the same grid, or files are missing.
    """
    if len(inputs.predictions) != len(inputs.truth):
        raise UserError(
            "--truth", f"has {len(inputs.truth)} paths for {len(inputs.predictions)} predictions", "give one for each"
        )
    datasets = {dataset.name: dataset for dataset in settings.datasets}
    pairs = [
        (datasets[folder.name], folder, truth) for folder, truth in zip(inputs.predictions, inputs.truth, strict=True)
    ]
    progress = Progress(f"score {settings.run}", sum(map(len, settings.cases.values())), "cases")
    scores, confused = [], []
    for dataset, folder, source in pairs:
        for case in settings.cases[dataset.name]:
            prediction = folder / f"{case}.nii.gz"
            bits, grid = _read_prediction(settings, prediction)
            truth = _read_truth(settings, dataset, case, source, grid, prediction)
            key = {"run": settings.run, "dataset": dataset.name, "case": case}
            scores += [{**key, **row} for row in _scores(settings, bits, grid, truth)]
            confused += [{**key, **row} for row in _confusion(settings, bits, truth)]
            progress.advance(note=f"{dataset.name}/{case}")
    for path, rows, names in ((outputs.scores, scores, columns()), (outputs.confusion, confused, CONFUSION_COLUMNS)):
        with atomic_write(path) as partial:
            pd.DataFrame(rows, columns=names).to_csv(partial, index=False, float_format="%.6g")


def _read_prediction(settings: Settings, prediction: Path) -> tuple[np.ndarray, Geometry]:
    """ROI bits (D H W) and their grid; raises UserError where they are of other ROIs."""
    bits, grid = read_roi_bits(prediction)
    names = roi_names(prediction)
    if names != settings.rois:
        raise UserError(
            str(prediction),
            f"has the ROIs {', '.join(names)}",
            "run `snakemake scores --cores all --forcerun predict` with this config",
        )
    return bits, grid


def _scores(settings: Settings, bits: np.ndarray, grid: Geometry, truth: CaseTruth) -> Iterator[dict[str, Any]]:
    """A row for each ROI whose truth is known."""
    family = families(settings.rois, settings.organs)
    for roi in truth.labelled:
        yield score_roi(
            roi_mask(bits, roi),
            truth.mask(roi),
            settings.rois[roi],
            grid.spacing_mm,
            settings.scores.convention,
            settings.scores.surface_tolerance_mm,
            truth.known(roi),
            truth.any_of([other for other in range(len(family)) if family[other] != family[roi]]),
        )


def _confusion(settings: Settings, bits: np.ndarray, truth: CaseTruth) -> Iterator[dict[str, Any]]:
    for pair in confusion(bits, truth, families(settings.rois, settings.organs)):
        yield pair._asdict() | {"roi": settings.rois[pair.roi], "true_roi": settings.rois[pair.true_roi]}


def _read_truth(
    settings: Settings, dataset: Dataset, case: str, truth: Path, grid: Geometry, prediction: Path
) -> CaseTruth:
    """Every ROI whose truth is known in this case; one that is unknown at every voxel is left out."""
    if settings.scores.truth == "full":
        file = truth / f"{case}.nii.gz"
        bits, true_grid = read_roi_bits(file)
        _check_grids(true_grid, grid, file, prediction)
        return CaseTruth(bits, tuple(range(len(settings.rois))))
    labelling = dataset.labelling(case)
    rois = tuple(roi for roi in settings.rois if roi in dataset.labels)
    files = case_files(dataset.layout, truth.parent / dataset.root, case, rois, labelling)
    labels = read_labels(
        files, rois, labelling, lambda file, true_grid: _check_grids(true_grid, grid, file, prediction)
    )
    builder = TruthBuilder(grid.shape, len(settings.rois))
    for roi in labels.labelled:
        unknown = labels.unknown(roi)
        if unknown is None or not unknown.all():
            builder.add(settings.rois.index(roi), labels.mask(roi), unknown)
    return builder.truth()


def _check_grids(truth: Geometry, prediction: Geometry, true_file: Path, predicted_file: Path) -> None:
    if wrong := prediction.difference(truth):
        raise UserError(
            str(predicted_file),
            f"is on another grid than its truth {true_file}: {wrong}",
            "run `snakemake scores --cores all --forcerun predict`",
        )


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
