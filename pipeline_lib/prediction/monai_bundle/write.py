"""A model as a MONAI bundle: a folder with the model, its description, how it is run, and a README."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...config.confidence import Calibration
from ...config.evaluation import Prediction
from ...files import atomic_folder, write_json
from ...networks.model_file import save_with_prediction
from ...version import DISTRIBUTION
from ..model_card import MeasuredDice, TrainingData, model_card
from .configs import MODEL_FILE, About, inference, metadata

_RUN = "python -m monai.bundle run --config_file configs/inference.json --dataset_dir CT --output_dir OUT"


def write_bundle(
    folder: Path,
    model: Path,
    *,
    description: Mapping[str, Any],
    prediction: Prediction,
    calibration: Calibration | None,
    data: Sequence[TrainingData],
    dice: Mapping[str, MeasuredDice],
    about: About,
    licence: Path | None,
    version: str,
) -> None:
    """Write the bundle of the model file `model` to `folder`, whole or not at all.

    `prediction` decides how it predicts, `calibration` is one of these predictions, `licence` is a text file. No file
    in it is a pickle.
    """
    with atomic_folder(folder) as partial:
        save_with_prediction(model, partial / MODEL_FILE, prediction, calibration)
        (partial / "configs").mkdir()
        write_json(partial / "configs" / "metadata.json", metadata(description, data, dice, about))
        write_json(partial / "configs" / "inference.json", inference(description, prediction))
        docs = partial / "docs"
        docs.mkdir()
        card = model_card(description, prediction, calibration, data, dice, version)
        (docs / "README.md").write_text(card + _how_to_run(version, licence is not None), encoding="utf-8")
        if data:
            lines = [f"{part.name}: {part.licence}" for part in data]
            text = "Licences of the data sets that the model was trained on\n\n" + "\n".join(lines) + "\n"
            (docs / "data_license.txt").write_text(text, encoding="utf-8")
        if licence is not None:
            shutil.copyfile(licence, partial / "LICENSE")


def _how_to_run(version: str, licensed: bool) -> str:
    terms = (
        "`LICENSE` has the model's terms."
        if licensed
        else "No licence was given: ask whoever made the model before you use it or pass it on."
    )
    return f"""
## How to run it

This is a MONAI bundle. It needs Lacuna ({DISTRIBUTION} {version} or later, which brings MONAI and PyTorch) and the
package `fire`, which MONAI's command line uses. In this folder:

    {_RUN}

`CT` is an image file in HU (NIfTI, NRRD, MHA), a folder or zip of a DICOM series, or a folder of these. `OUT/CASE/`
gets `labels.nii.gz` on the CT's own grid, and `result.json`, which has the label values. Also: `--formats "['masks']"`,
`--device cpu`, `--precision float32`, `--model#overlap 0.25`; from another folder `--bundle_root BUNDLE`.

The masks are those of `lacuna predict CT -o OUT --model {MODEL_FILE}` to the last voxel. MONAI's own parts would
resample, place windows and blend them differently, so `configs/inference.json` names Lacuna's for these steps.
`network_def` is the network alone, which turns patches into logits.

## Before you run somebody else's bundle

`{MODEL_FILE}` holds numbers and text, and can run no code. There is no `model.pt`, since a pickle can. A bundle's
configs can name any Python function for MONAI to call: read `configs/inference.json` first, or use the model file alone
with `lacuna predict`, which does not read them.

## Licence

{terms}
Licences of the training data are listed above, if known. They may restrict what the model may be used for.
"""
