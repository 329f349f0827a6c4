"""Make a copy of a model file that says how to predict, to use elsewhere or to give away, also in others' formats.

    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml
    lacuna export model.safetensors -o liver.safetensors --largest-part liver
    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml \\
        --model-card liver.md --scores results/scores/RUN.csv
    lacuna export results/models/RUN/model.safetensors --monai-bundle liver --configfile my.yaml \\
        --scores results/scores/RUN.csv --licence LICENSE --authors "A lab"
    lacuna export model.safetensors --onnx liver.onnx
    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml --calibrate held-out

A model that the pipeline trained does not say how to predict, because the section `inference` of the config may still
change; `lacuna predict` then takes the defaults. The copy holds that section. The model card says in Markdown what the
model was trained on, how well it did, and what nobody has tested.

A MONAI bundle is a folder with that copy, its card, and configs with which `python -m monai.bundle run` gives the same
masks; whoever runs it needs Lacuna. An ONNX file is the network alone, from patch to probabilities, with its ROIs fixed
and the weights in float32, checked in ONNX Runtime; FILE.json beside it says what must be done before and after. That
needs the packages onnx, onnxscript and onnxruntime.
With --calibrate the model predicts labelled cases that it did not learn from, and the copy holds how its certainty of a
mask relates to the Dice: `lacuna predict` then says which Dice to expect, and which masks to look at. `held-out` takes
the training cases that `validation` of the config held out, `out-of-fold` those that the model's fold held out
(`folds`), `test` the test cases. The scores of the last two then no longer show how well the calibration does. The
config must be that of the training, which says what the model has learned from. Run it where the pipeline ran.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_prediction_options

if TYPE_CHECKING:
    from ..config.confidence import Calibration, CalibrationCases
    from ..config.evaluation import Prediction
    from ..config.schema import Config
    from ..prediction.model_card import TrainingData


_VOLUMES = Path("results/volumes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model.safetensors")
    parser.add_argument("-o", "--out", type=Path, help="model file to write")
    parser.add_argument("--monai-bundle", type=Path, metavar="DIR", help="MONAI bundle to write, a folder")
    parser.add_argument("--onnx", type=Path, metavar="FILE.onnx", help="ONNX file to write, and FILE.json")
    parser.add_argument("--configfile", type=Path, help="config whose section `inference` the copy holds")
    parser.add_argument("--model-card", type=Path, metavar="CARD.md", help="write a model card too")
    parser.add_argument(
        "--scores", type=Path, help="results/scores/RUN.csv of the model's run, for the model card and the bundle"
    )
    parser.add_argument(
        "--calibrate",
        choices=("held-out", "out-of-fold", "test"),
        help="make predictions give an expected Dice, fitted on these cases",
    )
    parser.add_argument(
        "--volumes",
        type=Path,
        help=f"folder of the pipeline's volumes, for --calibrate (default: {_VOLUMES})",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        help="for --calibrate; auto (the default) takes a GPU if there is one",
    )
    bundle = parser.add_argument_group("what a MONAI bundle says")
    bundle.add_argument("--licence", type=Path, metavar="FILE", help="text of the model's licence")
    bundle.add_argument("--authors", help="who made the model")
    bundle.add_argument("--copyright", help="whose the model is")
    add_prediction_options(parser)


def run(given: argparse.Namespace) -> int:
    from ..config.loading import load_config
    from ..files import atomic_write, make_writable
    from ..networks.model_description import read_description
    from ..networks.model_file import save_with_prediction
    from ..prediction.model import Options, asked_for, own_prediction
    from ..prediction.model_card import measured_dice, model_card
    from ..prediction.monai_bundle.configs import NOT_STATED, About
    from ..prediction.monai_bundle.write import write_bundle
    from ..stages.predict.settings import prediction_of
    from ..version import version

    paths = _checked(given)
    description, shapes = read_description(given.model)
    config = load_config(given.configfile) if given.configfile is not None else None
    held = own_prediction(description) if config is None else prediction_of(config)
    options = Options(
        overlap=given.overlap,
        flip_tta=given.flip_tta,
        weights=given.weights,
        largest_part=tuple(given.largest_part),
    )
    prediction = asked_for(given.model, description, shapes, held, options)
    fold = _fold(config, description.get("run", ""), given.calibrate) if config is not None else None
    data = _training_data(config, description.get("run", ""), fold) if config is not None else []
    dice = measured_dice(description, given.scores) if given.scores is not None else {}
    for path in paths:
        make_writable(path.parent, "name another file")
    calibration = _calibration(given, config, fold, description, prediction)
    # First, since it alone can still be refused.
    if given.onnx is not None:
        from ..prediction.onnx_file import json_beside, write_onnx

        off = write_onnx(given.model, given.onnx, prediction, version())
        print(f"{given.onnx} (probabilities are off PyTorch's by {off:.1e} at most)")
        print(json_beside(given.onnx))
    if given.out is not None:
        save_with_prediction(given.model, given.out, prediction, calibration)
        print(given.out)
    if given.model_card is not None:
        with atomic_write(given.model_card) as partial:
            partial.write_text(
                model_card(description, prediction, calibration, data, dice, version()), encoding="utf-8"
            )
        print(given.model_card)
    if given.monai_bundle is not None:
        write_bundle(
            given.monai_bundle,
            given.model,
            description=description,
            prediction=prediction,
            calibration=calibration,
            data=data,
            dice=dice,
            about=About(given.authors or NOT_STATED, given.copyright or NOT_STATED),
            licence=given.licence,
            version=version(),
        )
        print(given.monai_bundle)
    return 0


def _checked(given: argparse.Namespace) -> Sequence[Path]:
    """What will be written; raises UserError for arguments that do not fit together, before anything is."""
    from ..errors import UserError

    if given.out is given.monai_bundle is given.onnx is None:
        raise UserError("lacuna export", "is not told what to write", "add -o FILE, --monai-bundle DIR or --onnx FILE")
    asked = {"--out": given.out, "--model-card": given.model_card, "--monai-bundle": given.monai_bundle}
    if given.onnx is not None:
        from ..prediction.onnx_file import json_beside
        from ..prediction.onnx_graph import check_packages

        check_packages()
        asked |= {"--onnx": given.onnx, "--onnx, FILE.json": json_beside(given.onnx)}
    written = {option: path for option, path in asked.items() if path is not None}
    for path in written.values():
        if path.exists():
            raise UserError(str(path), "is there already", "name another file")
    for (first, one), (second, other) in combinations(written.items(), 2):
        if one.resolve() == other.resolve():
            raise UserError(second, f"names the same file as {first}", "name another file")
    bundle = written.get("--monai-bundle")
    for option, path in written.items():
        if bundle is not None and bundle.resolve() in path.resolve().parents:
            raise UserError(option, "lies in the bundle's folder", "name a file outside it")
    if given.calibrate is not None and given.configfile is None:
        raise UserError("--calibrate", "needs the cases of a config", "add --configfile, the config of the training")
    if given.calibrate is not None and given.out is given.monai_bundle is None:
        raise UserError("--calibrate", "is for a model file or a bundle", "add -o FILE or --monai-bundle DIR")
    if given.scores is not None and given.model_card is given.monai_bundle is None:
        raise UserError(
            "--scores", "is for the model card and the bundle", "add --model-card CARD.md or --monai-bundle DIR"
        )
    for option in ("volumes", "device"):
        if getattr(given, option) is not None and given.calibrate is None:
            raise UserError(f"--{option}", "is for a calibration", "add --calibrate held-out, out-of-fold or test")
    for option in ("licence", "authors", "copyright"):
        if getattr(given, option) is not None and given.monai_bundle is None:
            raise UserError(f"--{option}", "is for a MONAI bundle", "add --monai-bundle DIR")
    if given.licence is not None and not given.licence.is_file():
        raise UserError(str(given.licence), "is missing", "check the path")
    return list(written.values())


def _fold(config: Config, run: str, calibrate: CalibrationCases | None) -> int | None:
    """The fold without whose cases `run` was trained; None if there is none in the config.

    Raises UserError if `calibrate` asks for cases held out and the config has no such fold.
    """
    from ..config.runs import read_run
    from ..errors import UserError

    trained = read_run(run)
    fold = trained.fold if trained is not None else None
    if fold is None or fold < (config.folds or 0):
        return fold
    if calibrate in ("held-out", "out-of-fold"):
        wrong = f"has no fold {fold}, and the model is the run {run}"
        raise UserError("--configfile", wrong, "give the config of the training")
    return None


def _calibration(
    given: argparse.Namespace,
    config: Config | None,
    fold: int | None,
    description: Mapping[str, Any],
    prediction: Prediction,
) -> Calibration | None:
    """The calibration that is asked for; else the one that the model has, if it still predicts in the same way."""
    from ..config.evaluation import PredictionExecution
    from ..prediction.calibrated_copy import fitted_calibration, kept_calibration, labelled_cases

    if given.calibrate is None or config is None:
        return kept_calibration(description, prediction)
    return fitted_calibration(
        given.model,
        description,
        prediction,
        PredictionExecution(device=given.device or "auto"),
        given.volumes or _VOLUMES,
        given.calibrate,
        labelled_cases(config, given.calibrate, fold),
    )


def _training_data(config: Config, run: str, fold: int | None) -> list[TrainingData]:
    """The partially labelled data sets of which the training `run`, of `fold`, learned cases."""
    from ..config.runs import read_run
    from ..config.validation import cases_of_method, learned_cases
    from ..prediction.model_card import TrainingData
    from ..stages.slices import labelled_rois

    trained = read_run(run)
    method = config.methods.get(trained.method) if trained is not None else None
    labelled = labelled_rois(config)
    learned = learned_cases(config, fold) if method is None else cases_of_method(config, method, fold)
    return [
        TrainingData(dataset.name, dataset.licence, len(cases), tuple(labelled[dataset.name]))
        for dataset in config.datasets.partially_labelled
        if (cases := learned.get(dataset.name))
    ]
