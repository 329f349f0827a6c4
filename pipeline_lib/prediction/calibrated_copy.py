"""The calibration of a copy of a model: fitted on cases of the pipeline, or the one that the model has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.confidence import Calibration, CalibrationCases
from ..config.evaluation import Prediction, PredictionExecution
from ..config.folds import out_of_fold_cases
from ..config.schema import Config
from ..config.validation import held_out_cases
from ..errors import UserError
from ..progress import Progress, say
from ..volumes.store import open_volume
from .calibration import calibration
from .model import own_calibration
from .predicted_masks import predicted_masks

_WHY_NONE: dict[CalibrationCases, str] = {
    "held-out": "the config holds none out",
    "out-of-fold": "the model is not that of a fold",
    "test": "no data set of the config has a test case",
}


def kept_calibration(description: Mapping[str, Any], prediction: Prediction) -> Calibration | None:
    """The calibration that the model has, if the copy predicts in the same way; says so if it does not."""
    found = own_calibration(description, prediction)
    if found is None and description.get("calibration") is not None:
        say("note: the calibration of the model is left out, since the copy predicts in another way")
    return found


def fitted_calibration(
    model: Path,
    description: Mapping[str, Any],
    prediction: Prediction,
    execution: PredictionExecution,
    volumes: Path,
    cases: CalibrationCases,
    listed: list[tuple[str, str]],
) -> Calibration:
    """A calibration of `prediction` on the `listed` cases (data set, case), whose volumes are in `volumes`.

    Raises UserError if there is no case or too few masks, or if a volume does not fit the model or into memory.
    """
    if not listed:
        remedy = "train with `validation.fraction` above 0 (held-out) or `folds` (out-of-fold), or name other cases"
        raise UserError(f"--calibrate {cases}", f"names no case: {_WHY_NONE[cases]}", remedy)
    opened = [open_volume(volumes / dataset / case) for dataset, case in listed]
    progress = Progress("calibrate", len(opened), "cases")
    masks = predicted_masks(model, prediction, execution, opened, lambda case: progress.advance(note=case))
    return calibration(masks, description["rois"], cases)


def labelled_cases(config: Config, chosen: CalibrationCases, fold: int | None) -> list[tuple[str, str]]:
    """(data set, case) of those that the partially labelled data sets test with, or hold out of a training.

    Of the training of `fold`, or of the one on all cases (None): `held-out` are what `validation` holds out of it,
    `out-of-fold` what the fold does.
    """
    if chosen == "held-out":
        return [(dataset, case) for dataset, cases in held_out_cases(config, fold).items() for case in cases]
    datasets = config.datasets.partially_labelled
    if chosen == "test":
        return [(dataset.name, case) for dataset in datasets for case in dataset.split_cases("test")]
    if fold is None:
        return []
    return [(dataset.name, case) for dataset in datasets for case in out_of_fold_cases(config, dataset.name, fold)]
