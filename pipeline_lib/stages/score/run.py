"""Compare one run's predictions with the ground truth, per case and ROI, on the original grids.

    python -m pipeline_lib.stages.score.run --settings settings.json \\
        --predictions results/predictions/RUN/DATASET … \\
        --truth resources/truth/DATASET … --scores results/scores/RUN.csv

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
from ..command import stage_command
from .settings import Inputs, Outputs, Settings


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """Score every test case of every data set.

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
    progress = Progress(
        f"score {settings.run}", sum(len(dataset.split_cases("test")) for dataset, _, _ in pairs), "cases"
    )
    rows = []
    for dataset, folder, truth in pairs:
        for case in dataset.split_cases("test"):
            rows += _score_case(settings, dataset, case, folder / f"{case}.nii.gz", truth)
            progress.advance(note=f"{dataset.name}/{case}")
    with atomic_write(outputs.scores) as partial:
        pd.DataFrame(rows, columns=columns()).to_csv(partial, index=False, float_format="%.6g")


def _score_case(settings: Settings, dataset: Dataset, case: str, prediction: Path, truth: Path) -> list[dict[str, Any]]:
    bits, grid = read_roi_bits(prediction)
    names = roi_names(prediction)
    if names != settings.rois:
        raise UserError(
            str(prediction),
            f"has the ROIs {', '.join(names)}",
            "run `snakemake scores --cores all --forcerun predict` with this config",
        )
    rows = []
    for roi, mask, known in _true_masks(settings, dataset, case, truth, grid, prediction):
        row = score_roi(
            roi_mask(bits, settings.rois.index(roi)),
            mask,
            roi,
            grid.spacing_mm,
            settings.scores.convention,
            settings.scores.surface_tolerance_mm,
            known,
        )
        rows.append({"run": settings.run, "dataset": dataset.name, "case": case, **row})
    return rows


def _true_masks(
    settings: Settings, dataset: Dataset, case: str, truth: Path, grid: Geometry, prediction: Path
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Each ROI whose truth is known in this case, with its mask, and where it is known (bool, D H W; None: everywhere).

    A ROI that is unknown at every voxel is left out.
    """
    if settings.scores.truth == "full":
        file = truth / f"{case}.nii.gz"
        bits, true_grid = read_roi_bits(file)
        _check_grids(true_grid, grid, file, prediction)
        for index, roi in enumerate(settings.rois):
            yield roi, roi_mask(bits, index), None
    else:
        labelling = dataset.labelling(case)
        rois = tuple(roi for roi in settings.rois if roi in dataset.labels)
        files = case_files(dataset.layout, truth.parent / dataset.root, case, rois, labelling)
        labels = read_labels(
            files, rois, labelling, lambda file, true_grid: _check_grids(true_grid, grid, file, prediction)
        )
        for roi in labels.labelled:
            unknown = labels.unknown(roi)
            if unknown is None or not unknown.all():
                yield roi, labels.mask(roi), None if unknown is None else ~unknown


def _check_grids(truth: Geometry, prediction: Geometry, true_file: Path, predicted_file: Path) -> None:
    if wrong := prediction.difference(truth):
        raise UserError(
            str(predicted_file),
            f"is on another grid than its truth {true_file}: {wrong}",
            "run `snakemake scores --cores all --forcerun predict`",
        )


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
