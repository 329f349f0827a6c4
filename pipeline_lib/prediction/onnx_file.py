"""A model as an ONNX file with its ROIs fixed, and a JSON file beside it that says how to use it without Lacuna."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import torch

from ..config.evaluation import Prediction
from ..config.volumes import Patches
from ..files import file_digest, write_json
from ..inference.sliding_window import GAUSSIAN_WIDTH
from ..networks.model_file import load_segmentation_model
from .onnx_graph import IMAGE, PROBABILITIES, TOLERANCE, write_graph
from .windows import probabilities_of


def json_beside(onnx: Path) -> Path:
    """The file that describes `onnx`."""
    return onnx.with_suffix(".json")


def write_onnx(model: Path, onnx: Path, prediction: Prediction, version: str) -> float:
    """Write the network of the model file `model` to `onnx`, for patches of the size that it was trained with.

    Its input is a patch, its output the probabilities of all ROIs. Returns how far ONNX Runtime's are off PyTorch's.

    Raises UserError if the model is not usable or cannot be exported.
    """
    network, description = load_segmentation_model(model, torch.device("cpu"), prediction.weights)
    shape = (1, 1, *Patches.model_validate(description["patches"]).shape)
    off = write_graph(network, probabilities_of(description), shape, onnx)
    said = usage(description, prediction) | {
        "made_by": {"lacuna": version, "model": file_digest(model), "weights": prediction.weights},
        "checked": {
            "onnxruntime": installed_version("onnxruntime"),
            "largest_difference_from_pytorch": off,
            "tolerance": TOLERANCE,
        },
    }
    write_json(json_beside(onnx), said)
    return off


def usage(description: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
    """What a program must know to use the graph: shapes, values, grid, windows, and what follows the network."""
    rois, (depth, height, width) = list(description["rois"]), Patches.model_validate(description["patches"]).shape
    low, high = description["window_hu"]
    return {
        "input": {
            "name": IMAGE,
            "shape": [1, 1, depth, height, width],
            "axes": "batch, channel, z, y, x; x grows to the patient's left, y to posterior, z to superior",
            "spacing_mm_xyz": list(description["spacing_mm"]),
            "window_hu": [low, high],
            "scaling": "2 * (clip(HU, low, high) - low) / (high - low) - 1",
        },
        "output": {
            "name": PROBABILITIES,
            "shape": [1, len(rois), depth, height, width],
            "rois": rois,
            "threshold": 0.5,
        },
        "windows": {
            "overlap": prediction.overlap,
            "blending": f"Gaussian weights, standard deviation {GAUSSIAN_WIDTH} of each side",
            "flip_tta": prediction.flip_tta,
            "mirrors": description.get("mirrors", {}),
        },
        "post_processing": prediction.post_processing,
    }
