"""Say what a model file holds: its ROIs, how it was trained, and how it predicts. Nothing in the file is run.

    lacuna info model.safetensors
    lacuna info model.safetensors --json

It says nothing about how good the model is: that stands in the report of the pipeline that trained it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model.safetensors")
    parser.add_argument("--json", action="store_true", help="print it as JSON, for programs")


def run(given: argparse.Namespace) -> int:
    from ..networks.model_description import has_teacher, read_description, without_teacher

    description, shapes = read_description(given.model)
    content = {
        **description,
        "parameters": sum(math.prod(shape) for shape in without_teacher(shapes).values()),
        "has_teacher": has_teacher(shapes),
        "bytes": given.model.stat().st_size,
    }
    print(json.dumps(content, indent=2) if given.json else "\n".join(lines(content)))
    return 0


def lines(content: Mapping[str, Any]) -> Sequence[str]:
    """The facts that decide whether a model is of use, a line each."""
    from ..config.volumes import Patches
    from ..networks.model_description import method_in_words

    rois, prediction = content["rois"], content.get("prediction")
    method, network = content["method"], content["network"]
    facts = {
        "ROIs": f"{len(rois)}: {', '.join(rois)}",
        "network": f"{network['kind']}, {content['parameters'] / 1e6:.1f} million parameters",
        "method": method_in_words(method) + (", with its teacher" if content["has_teacher"] else ""),
        "training": f"{content.get('run', 'unknown')}, seed {content.get('seed', 'unknown')}",
        "voxels": f"{_product(content['spacing_mm'])} mm (x, y, z)",
        "patch": f"{_product(Patches.model_validate(content['patches']).size_voxels)} voxels",
        "intensities": "{:g} to {:g} HU".format(*content["window_hu"]),
        "left and right": ", ".join(
            f"{one}/{other}" for one, other in content.get("mirrors", {}).items() if one < other
        )
        or "no ROI has a side",
        "prediction": _said(prediction) if prediction else "not said; the defaults apply (`lacuna export` can add it)",
        "expected Dice": _calibrated(content.get("calibration")),
        "size": f"{content['bytes'] / 1e6:.0f} MB",
    }
    width = max(map(len, facts)) + 2
    return [f"{name:{width}}{value}" for name, value in facts.items()]


def _calibrated(calibration: Mapping[str, Any] | None) -> str:
    if calibration is None:
        return "not calibrated (`lacuna export --calibrate` does it)"
    from ..config.confidence import Calibration

    known = Calibration.model_validate(calibration)
    return f"calibrated on {known.masks} masks of {known.cases} cases"


def _said(prediction: Mapping[str, Any]) -> str:
    processed = ", ".join(f"{roi}: {what}" for roi, what in prediction.get("post_processing", {}).items())
    flips = ", averaged over flips" if prediction.get("flip_tta") else ""
    overlap = prediction.get("overlap")
    return f"{prediction.get('weights', 'student')}, overlap {overlap}{flips}; post-processing: {processed or 'none'}"


def _product(sides: Sequence[float]) -> str:
    return "×".join(f"{side:g}" for side in sides)
