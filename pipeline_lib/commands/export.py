"""Make a copy of a model file that says how to predict, to use elsewhere or to give away.

    lacuna export results/models/RUN/model.safetensors -o liver.safetensors --configfile my.yaml
    lacuna export model.safetensors -o liver.safetensors --largest-part liver

A model that the pipeline trained does not say it itself, because the section `inference` of the config may still
change; `lacuna predict` then takes the defaults. The copy holds that section.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .options import add_prediction_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model.safetensors")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--configfile", type=Path, help="config whose section `inference` the copy holds")
    add_prediction_options(parser)


def run(given: argparse.Namespace) -> int:
    from ..config.evaluation import Prediction
    from ..config.loading import load_config
    from ..errors import UserError
    from ..networks.model_description import read_description
    from ..networks.model_file import save_with_prediction
    from ..prediction.model import Options, asked_for
    from ..stages.predict.settings import prediction_of

    if given.out.exists():
        raise UserError(str(given.out), "is there already", "name another file with -o")
    if given.configfile is not None:
        held = prediction_of(load_config(given.configfile))
    else:
        description, _ = read_description(given.model)
        held = Prediction.model_validate(description.get("prediction") or {})
    options = Options(
        overlap=given.overlap,
        flip_tta=given.flip_tta,
        weights=given.weights,
        largest_part=tuple(given.largest_part),
    )
    save_with_prediction(given.model, given.out, asked_for(held, options))
    print(given.out)
    return 0
