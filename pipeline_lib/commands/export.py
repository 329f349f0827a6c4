"""Make a copy of a model file that says how to predict, to use elsewhere or to give away.

    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml
    lacuna export model.safetensors -o liver.safetensors --largest-part liver
    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml \\
        --model-card liver.md --scores results/scores/RUN.csv
    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml --calibrate held-out

A model that the pipeline trained does not say it itself, because the section `inference` of the config may still
change; `lacuna predict` then takes the defaults. The copy holds that section. The model card says in Markdown what the
model was trained on, how well it did, and what nobody has tested.

With --calibrate the model predicts labelled cases that it did not learn from, and the copy holds how its certainty of a
mask relates to the Dice: `lacuna predict` then says which Dice to expect, and which masks to look at. `held-out` takes
the training cases that `validation` of the config held out, which must be the config of the training; `test` takes the
test cases, whose scores then no longer show how well the calibration does. Call it where the pipeline ran.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_prediction_options

if TYPE_CHECKING:
    from ..config.confidence import Calibration, CalibrationCases
    from ..config.evaluation import Prediction
    from ..config.schema import Config
    from ..prediction.model_card import TrainingData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model.safetensors")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--configfile", type=Path, help="config whose section `inference` the copy holds")
    parser.add_argument("--model-card", type=Path, metavar="CARD.md", help="write a model card too")
    parser.add_argument("--scores", type=Path, help="results/scores/RUN.csv of the model's run, for the model card")
    parser.add_argument(
        "--calibrate",
        choices=("held-out", "test"),
        help="make predictions give an expected Dice, fitted on these cases",
    )
    parser.add_argument(
        "--volumes",
        type=Path,
        default=Path("results/volumes"),
        help="folder of the pipeline's volumes, for --calibrate",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="for --calibrate; auto takes a GPU if there is one",
    )
    add_prediction_options(parser)


def run(given: argparse.Namespace) -> int:
    from ..config.evaluation import Prediction
    from ..config.loading import load_config
    from ..errors import UserError
    from ..files import atomic_write, make_writable
    from ..networks.model_description import read_description
    from ..networks.model_file import save_with_prediction
    from ..prediction.model import Options, asked_for
    from ..prediction.model_card import measured_dice, model_card
    from ..stages.predict.settings import prediction_of
    from ..version import version

    for path in (given.out, given.model_card):
        if path is not None and path.exists():
            raise UserError(str(path), "is there already", "name another file")
    if given.model_card is not None and given.model_card.resolve() == given.out.resolve():
        raise UserError("--model-card", "names the same file as --out", "name another file")
    if given.scores is not None and given.model_card is None:
        raise UserError("--scores", "is for the model card", "add --model-card CARD.md")
    if given.calibrate is not None and given.configfile is None:
        raise UserError("--calibrate", "needs the cases of a config", "add --configfile, the config of the training")
    description, shapes = read_description(given.model)
    config = load_config(given.configfile) if given.configfile is not None else None
    held = Prediction.model_validate(description.get("prediction") or {}) if config is None else prediction_of(config)
    options = Options(
        overlap=given.overlap,
        flip_tta=given.flip_tta,
        weights=given.weights,
        largest_part=tuple(given.largest_part),
    )
    prediction = asked_for(given.model, description, shapes, held, options)
    dice = measured_dice(description, given.scores) if given.scores is not None else {}
    for path in (given.out, given.model_card):
        if path is not None:
            make_writable(path.parent, "name another file")
    calibration = _calibration(given, config, description, prediction)
    card = ""
    if given.model_card is not None:
        data = _training_data(config) if config is not None else []
        card = model_card(description, prediction, calibration, data, dice, version())
    save_with_prediction(given.model, given.out, prediction, calibration)
    print(given.out)
    if card:
        with atomic_write(given.model_card) as partial:
            partial.write_text(card, encoding="utf-8")
        print(given.model_card)
    return 0


def _calibration(
    given: argparse.Namespace, config: Config | None, description: Mapping[str, Any], prediction: Prediction
) -> Calibration | None:
    """The calibration that is asked for; else the one that the model has, if it still predicts in the same way."""
    from ..config.confidence import Calibration
    from ..config.evaluation import Prediction, PredictionExecution
    from ..errors import UserError
    from ..prediction.calibration import calibration
    from ..prediction.predicted_masks import predicted_masks
    from ..progress import Progress, say
    from ..volumes.store import open_volume

    if given.calibrate is None or config is None:
        held = description.get("calibration")
        if held is None:
            return None
        if prediction != Prediction.model_validate(description.get("prediction") or {}):
            say("note: the calibration of the model is left out, since the copy predicts in another way")
            return None
        return Calibration.model_validate(held)
    cases = _labelled_cases(config, given.calibrate)
    if not cases:
        wrong = "names no case: the config holds none out" if given.calibrate == "held-out" else "names no case"
        raise UserError("--calibrate", wrong, "train with `validation.fraction` above 0, or give --calibrate test")
    volumes = [open_volume(given.volumes / dataset / case) for dataset, case in cases]
    progress = Progress("calibrate", len(volumes), "cases")
    execution = PredictionExecution(device=given.device)
    masks = predicted_masks(given.model, prediction, execution, volumes, lambda case: progress.advance(note=case))
    return calibration(masks, description["rois"], given.calibrate)


def _labelled_cases(config: Config, chosen: CalibrationCases) -> list[tuple[str, str]]:
    """(data set, case) of those that the partially labelled data sets hold out, or test with."""
    from ..config.validation import held_out_cases

    if chosen == "held-out":
        return [(dataset, case) for dataset, cases in held_out_cases(config).items() for case in cases]
    datasets = config.datasets.partially_labelled
    return [(dataset.name, case) for dataset in datasets for case in dataset.split_cases("test")]


def _training_data(config: Config) -> list[TrainingData]:
    """The partially labelled data sets that have training cases."""
    from ..config.validation import held_out_cases
    from ..prediction.model_card import TrainingData
    from ..stages.slices import labelled_rois

    labelled, held_out = labelled_rois(config), held_out_cases(config)
    return [
        TrainingData(dataset.name, dataset.licence, len(cases), tuple(labelled[dataset.name]))
        for dataset in config.datasets.partially_labelled
        if (cases := set(dataset.split_cases("train")) - set(held_out.get(dataset.name, ())))
    ]
