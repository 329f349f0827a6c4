"""Make a copy of a model file that says how to predict, to use elsewhere or to give away.

    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml
    lacuna export model.safetensors -o liver.safetensors --largest-part liver
    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml \\
        --model-card liver.md --scores results/scores/RUN.csv

A model that the pipeline trained does not say it itself, because the section `inference` of the config may still
change; `lacuna predict` then takes the defaults. The copy holds that section. The model card says in Markdown what the
model was trained on, how well it did, and what nobody has tested.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_prediction_options

if TYPE_CHECKING:
    from ..config.schema import Config
    from ..prediction.model_card import TrainingData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model.safetensors")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--configfile", type=Path, help="config whose section `inference` the copy holds")
    parser.add_argument("--model-card", type=Path, metavar="CARD.md", help="write a model card too")
    parser.add_argument("--scores", type=Path, help="results/scores/RUN.csv of the model's run, for the model card")
    add_prediction_options(parser)


def run(given: argparse.Namespace) -> int:
    from ..config.evaluation import Prediction
    from ..config.loading import load_config
    from ..errors import UserError
    from ..files import atomic_write, make_writable
    from ..networks.model_description import read_description
    from ..networks.model_file import save_with_prediction
    from ..prediction.model import Options, asked_for
    from ..prediction.model_card import model_card
    from ..stages.predict.settings import prediction_of
    from ..version import version

    for path in (given.out, given.model_card):
        if path is not None and path.exists():
            raise UserError(str(path), "is there already", "name another file")
    if given.model_card is not None and given.model_card.resolve() == given.out.resolve():
        raise UserError("--model-card", "names the same file as --out", "name another file")
    if given.scores is not None and given.model_card is None:
        raise UserError("--scores", "is for the model card", "add --model-card CARD.md")
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
    card = ""
    if given.model_card is not None:
        data = _training_data(config, description.get("run", "")) if config is not None else []
        card = model_card(description, prediction, data, given.scores, version())
    for path in (given.out, given.model_card):
        if path is not None:
            make_writable(path.parent, "name another file")
    save_with_prediction(given.model, given.out, prediction)
    print(given.out)
    if card:
        with atomic_write(given.model_card) as partial:
            partial.write_text(card, encoding="utf-8")
        print(given.model_card)
    return 0


def _training_data(config: Config, run: str) -> list[TrainingData]:
    """The partially labelled data sets of which `run` learned cases."""
    from ..config.runs import read_run
    from ..config.validation import learned_cases
    from ..prediction.model_card import TrainingData
    from ..stages.slices import labelled_rois

    trained = read_run(run)
    fold = trained.fold if trained is not None and config.folds is not None else None
    labelled, learned = labelled_rois(config), learned_cases(config, fold)
    return [
        TrainingData(dataset.name, dataset.licence, len(cases), tuple(labelled[dataset.name]))
        for dataset in config.datasets.partially_labelled
        if (cases := learned[dataset.name])
    ]
