"""The two files under a bundle's configs/: what the model is (metadata.json) and how it is run (inference.json).

Keys of metadata.json are those of MONAI's bundle specification and of its schema of 2024-07-25; `spacing_mm`,
`window_hu` and `training_data` are ours, which both allow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...config.evaluation import Prediction
from ...config.volumes import Patches
from ...reporting.results import roi_label
from ...version import DISTRIBUTION, installed
from ..model_card import MeasuredDice, TrainingData

MODEL_FILE = "models/model.safetensors"
NOT_STATED = "not stated"
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_BUNDLE_VERSION = "0.1.0"
_INTENDED_USE = (
    "Research on the segmentation of CT. It is not a medical device: do not base a diagnosis or a treatment on it."
)
_PACKAGES = ("monai", "torch", "numpy")
_ANY = ["*", "*", "*"]


@dataclass(frozen=True)
class About:
    """What only the person who gives a model away knows."""

    authors: str = NOT_STATED
    copyright: str = NOT_STATED


def metadata(
    description: Mapping[str, Any],
    data: Sequence[TrainingData],
    dice: Mapping[str, MeasuredDice],
    about: About,
) -> dict[str, Any]:
    """The content of configs/metadata.json."""
    rois, versions = description["rois"], installed((*_PACKAGES, DISTRIBUTION))
    patch = list(Patches.model_validate(description["patches"]).shape)
    names = ", ".join(map(roi_label, rois))
    run = description.get("run", "a model")
    return {
        "schema": _SCHEMA,
        "version": _BUNDLE_VERSION,
        "changelog": {_BUNDLE_VERSION: f"{run}, seed {description.get('seed', 'not known')}"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"].partition("+")[0],
        "numpy_version": versions["numpy"],
        # MONAI's command line needs fire, any version.
        "required_packages_version": {DISTRIBUTION: versions.get(DISTRIBUTION, "unknown"), "fire": "0.5.0"},
        "name": run,
        "task": f"Segmentation of {len(rois)} regions of interest in CT",
        "description": f"Segments {names}. Method {description['method']['kind']}, network "
        f"{description['network']['kind']}, trained with Lacuna on partially labelled data sets.",
        "authors": about.authors,
        "copyright": about.copyright,
        "data_source": ", ".join(part.name for part in data) or NOT_STATED,
        "data_type": "CT in HU: NIfTI, NRRD, MHA, or a folder or zip of a DICOM series",
        "image_classes": "one channel: HU clipped to the window, which becomes −1 … 1",
        "pred_classes": f"a label map; {_values(rois)}. ROIs may overlap; formats `masks` and `bits` hold all of them",
        "eval_metrics": {
            "dice": {
                roi: {
                    "mean": found.mean,
                    "interval_95": None if math.isnan(found.low) else [found.low, found.high],
                    "cases": int(found.cases),
                }
                for roi, found in dice.items()
            }
        },
        "intended_use": _INTENDED_USE,
        "spacing_mm": list(description["spacing_mm"]),
        "window_hu": list(description["window_hu"]),
        "training_data": [
            {"name": part.name, "licence": part.licence, "cases": part.cases, "labels": list(part.rois)}
            for part in data
        ],
        "network_data_format": {
            "inputs": {"image": _tensor(["image"], patch, "magnitude", [-1, 1], modality="CT")},
            "outputs": {"pred": _tensor(rois, patch, "classes", [])},
            "post_processed_outputs": {
                "pred": {
                    **_tensor(["label"], _ANY, "segmentation", [0, len(rois)]),
                    "dtype": "uint8" if len(rois) < 256 else "uint16",
                    "is_patch_data": False,
                    "channel_def": {str(value): name for value, name in enumerate(("background", *rois))},
                }
            },
        },
    }


def _tensor(
    channels: Sequence[str], shape: Sequence[int | str], meaning: str, value_range: list[int], modality: str = "n/a"
) -> dict[str, Any]:
    """MONAI's format specifier. Sides are in the order D H W, which is z y x."""
    return {
        "type": "image",
        "format": meaning,
        "modality": modality,
        "num_channels": len(channels),
        "spatial_shape": list(shape),
        "dtype": "float32",
        "value_range": value_range,
        "is_patch_data": True,
        "channel_def": {str(index): name for index, name in enumerate(channels)},
    }


def _values(rois: Sequence[str]) -> str:
    return ", ".join(f"{value} is {roi_label(roi)}" for value, roi in enumerate(rois, start=1))


def inference(description: Mapping[str, Any], prediction: Prediction) -> dict[str, Any]:
    """The content of configs/inference.json. Its ids are those that MONAI expects of an inference workflow."""
    ours = "lacuna.bundle."
    return {
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/output'",
        "formats": ["labels"],
        "roi_count": len(description["rois"]),
        "device": "auto",
        "precision": "auto",
        "model": {
            "_target_": f"{ours}load_model",
            "file": f"$@bundle_root + '/{MODEL_FILE}'",
            "device": "@device",
            "precision": "@precision",
            "overlap": prediction.overlap,
            "flip_tta": prediction.flip_tta,
        },
        "network_def": "$@model.network",
        "datalist": {"_target_": f"{ours}cases", "path": "@dataset_dir", "output_dir": "@output_dir"},
        "preprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {"_target_": f"{ours}LoadCT", "allow_other_units": False},
                {
                    "_target_": f"{ours}ToVolume",
                    "spacing_mm": list(description["spacing_mm"]),
                    "window_hu": list(description["window_hu"]),
                },
            ],
        },
        "dataset": {"_target_": "monai.data.Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "inferer": {
            "_target_": f"{ours}WindowInferer",
            "window": "$@model.window",
            "roi_count": "@roi_count",
        },
        "postprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {"_target_": f"{ours}ToMasks", "model": "@model"},
                {
                    "_target_": f"{ours}WriteMasks",
                    "output_dir": "@output_dir",
                    "roi_count": "@roi_count",
                    "formats": "@formats",
                },
            ],
        },
        "evaluator": {
            "_target_": f"{ours}Evaluator",
            "dataset": "@dataset",
            "network": "@network_def",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "run": ["$@evaluator.run()"],
    }
