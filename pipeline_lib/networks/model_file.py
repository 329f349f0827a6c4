"""Trained networks as safetensors files that contain all that is needed to build and use them again.

The description is JSON in the file's metadata. Its keys are the names of the stages' settings:

- segmentation: `method`, `network`, `rois`, `patches`, `spacing_mm`, `window_hu`, and whatever else the stage adds, as
  `structures` (those of each ROI), `labelled` (data set → the ROIs that its training cases label), `mirrors` (ROI →
  what it becomes in a mirror image) and `started_from` (the digest of the file that the training started from); files
  of older versions lack these. `prediction`, which decides how it predicts (config.evaluation.Prediction), is added
  when the model is given away: until then the pipeline's config decides, so that an edit of it trains nothing again.
  `calibration` (config.confidence.Calibration) is added with it, and holds for that `prediction` alone;
- ROI-aware: `roi_aware`, `structures`, `patches`, `window_hu`, and whatever else the stage adds.

The teacher of a mean-teacher method lies beside its student, its tensors' names preceded by `teacher.`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config.confidence import Calibration
from ..config.evaluation import Prediction
from ..config.networks import Network
from ..config.roi_aware import RoiAware
from ..config.volumes import Patches
from ..errors import UserError
from ..files import atomic_write
from .build import BuiltNetwork, build_roi_aware_network, build_segmentation_network
from .model_checks import check_finite, check_repeats, check_shapes
from .model_description import (
    AGAIN,
    DESCRIPTION,
    OTHER_VERSION,
    ROI_AWARE_KEYS,
    SEGMENTATION_KEYS,
    TEACHER,
    check_description,
    description_in,
    opened,
    shapes_in,
    without_teacher,
)

Weights = Literal["student", "teacher"]
Built = TypeVar("Built", bound=nn.Module)


def save_model(path: Path, network: nn.Module, description: dict[str, Any], teacher: nn.Module | None = None) -> None:
    """Write the network's parameters and buffers with its JSON-able `description`, atomically.

    Those of its `teacher`, if it has one, follow under names that start with "teacher.".

    Raises ValueError if `description` has neither all SEGMENTATION_KEYS nor all ROI_AWARE_KEYS.
    """
    if not (description.keys() >= SEGMENTATION_KEYS or description.keys() >= ROI_AWARE_KEYS):
        raise ValueError(f"the description of {path} has only the keys {sorted(description)}")
    tensors = dict(network.state_dict())
    if teacher is not None:
        tensors |= {TEACHER + name: tensor for name, tensor in teacher.state_dict().items()}
    _save(path, {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, description)


def _save(path: Path, tensors: dict[str, Tensor], description: Mapping[str, Any]) -> None:
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={DESCRIPTION: json.dumps(description, allow_nan=False)})


def load_segmentation_model(
    path: Path, device: torch.device | str, weights: Weights = "student"
) -> tuple[BuiltNetwork, dict[str, Any]]:
    """The segmentation network in eval mode on `device`, without gradients, and its description.

    `weights` are the student's, or its teacher's if the method had one.

    Raises UserError if the file is missing, broken, or not a segmentation model of this version.
    """
    with opened(path, "pt") as file:
        description = description_in(path, file, SEGMENTATION_KEYS)
        settings = _settings(path, TypeAdapter[Network](Network), description["network"])
        shapes = shapes_in(file)
        labelled = description.get("labelled", {}) if settings.per_data_set else {}
        check_repeats(path, description["network"], labelled, shapes)
        if settings.per_data_set and not (labelled and all(labelled.values())):
            wrong = "has a part for each data set, and does not say which ROIs each labels (`labelled`)"
            raise UserError(str(path), wrong, AGAIN)
        embeddings, rois = shapes.get("embeddings", ()), description["rois"]
        if len(embeddings) != 2 or embeddings[0] != len(rois) or embeddings[1] == 0:
            raise UserError(str(path), f"has embeddings of shape {embeddings} for {len(rois)} ROIs", AGAIN)
        patch = Patches.model_validate(description["patches"])
        if any(side % settings.patch_multiple for side in patch.shape):
            wrong = f"has patches of {patch.size_voxels} voxels, whose sides do not divide by {settings.patch_multiple}"
            raise UserError(str(path), wrong, AGAIN)
        build = partial(
            build_segmentation_network, settings, rois=rois, labelled=[*labelled.values()], patch=patch.shape
        )
        first = file.get_tensor("embeddings")
        check_shapes(path, shapes, lambda: build(embeddings=first))
        # The teacher's tensors are not read where the student is asked for.
        chosen = {name: name for name in without_teacher(shapes)}
        if weights == "teacher":
            chosen |= {name: TEACHER + name for name in chosen if TEACHER + name in shapes}
        tensors = {name: file.get_tensor(held) for name, held in chosen.items()}
    check_finite(path, tensors)
    return _frozen(build(embeddings=tensors["embeddings"]), tensors, device), description


def load_roi_aware_model(path: Path, device: torch.device | str) -> tuple[nn.Module, dict[str, Any]]:
    """The ROI-aware network in eval mode on `device`, without gradients, and its description.

    Raises UserError if the file is missing, broken, or not a ROI-aware model of this version.
    """
    with opened(path, "pt") as file:
        description = description_in(path, file, ROI_AWARE_KEYS)
        roi_aware = _settings(path, TypeAdapter(RoiAware), description["roi_aware"])
        count = len(description["structures"])
        check_shapes(path, shapes_in(file), lambda: build_roi_aware_network(roi_aware, count))
        tensors = {name: file.get_tensor(name) for name in shapes_in(file)}
    check_finite(path, tensors)
    return _frozen(build_roi_aware_network(roi_aware, count), tensors, device), description


def save_with_prediction(path: Path, out: Path, prediction: Prediction, calibration: Calibration | None = None) -> None:
    """Write the segmentation model in `path` to `out`, with `prediction` as what decides how it predicts.

    `calibration` is one of these predictions; what `path` holds of another is left out.

    Raises UserError if `path` is not a usable model, or if one of the two does not fit it.
    """
    with opened(path, "pt") as file:
        description = description_in(path, file, SEGMENTATION_KEYS)
        description["prediction"] = prediction.model_dump(mode="json")
        description.pop("calibration", None)
        if calibration is not None:
            description["calibration"] = calibration.model_dump(mode="json")
        check_description(path, description)
        tensors = {name: file.get_tensor(name) for name in shapes_in(file)}
    _save(out, tensors, description)


def _settings(path: Path, kind: TypeAdapter[Any], content: Any) -> Any:
    try:
        return kind.validate_json(json.dumps(content))
    except ValidationError as error:
        raise UserError(str(path), OTHER_VERSION, AGAIN) from error


def _frozen(network: Built, tensors: dict[str, Tensor], device: torch.device | str) -> Built:
    network.load_state_dict(tensors)
    return network.to(device).eval().requires_grad_(False)
