"""Trained networks as safetensors files that contain all that is needed to build and use them again.

The description is JSON in the file's metadata. Its keys are the names of the stages' settings:

- segmentation: `method`, `network`, `rois`, `patches`, `spacing_mm`, `window_hu`, and whatever else the stage adds, as
  `mirrors` (ROI → what it becomes in a mirror image; files of older versions have none) and `started_from` (the digest
  of the file that the training started from);
- ROI-aware: `roi_aware`, `structures`, `patches`, `window_hu`, and whatever else the stage adds.

The teacher of a mean-teacher method lies beside its student, its tensors' names preceded by `teacher.`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config.networks import Network
from ..config.roi_aware import RoiAware
from ..errors import UserError
from ..files import atomic_write
from .build import build_roi_aware_network, build_segmentation_network

SEGMENTATION_KEYS = frozenset({"method", "network", "rois", "patches", "spacing_mm", "window_hu"})
ROI_AWARE_KEYS = frozenset({"roi_aware", "structures", "patches", "window_hu"})

_DESCRIPTION = "description"
_OTHER_VERSION = "comes from another version of Lacuna, whose networks differ"
_TEACHER = "teacher."
_REMEDY = "move it away and rerun the pipeline, which restores it from models/ or trains it again"
_KINDS = {
    SEGMENTATION_KEYS: ("a segmentation model", "results/models/RUN/model.safetensors"),
    ROI_AWARE_KEYS: ("a ROI-aware network", "results/roi_aware_network/model.safetensors"),
}


def save_model(path: Path, network: nn.Module, description: dict[str, Any], teacher: nn.Module | None = None) -> None:
    """Write the network's parameters and buffers with its JSON-able `description`, atomically.

    Those of its `teacher`, if it has one, follow under names that start with "teacher.".

    Raises ValueError if `description` has neither all SEGMENTATION_KEYS nor all ROI_AWARE_KEYS.
    """
    if not (description.keys() >= SEGMENTATION_KEYS or description.keys() >= ROI_AWARE_KEYS):
        raise ValueError(f"the description of {path} has only the keys {sorted(description)}")
    tensors = dict(network.state_dict())
    if teacher is not None:
        tensors |= {_TEACHER + name: tensor for name, tensor in teacher.state_dict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={_DESCRIPTION: json.dumps(description, allow_nan=False)})


def load_segmentation_model(
    path: Path, device: torch.device | str, weights: Literal["student", "teacher"] = "student"
) -> tuple[nn.Module, dict[str, Any]]:
    """The segmentation network in eval mode on `device`, without gradients, and its description.

    `weights` are the student's, or its teacher's if the method had one.

    Raises UserError if the file is missing, broken, or not a segmentation model of this version.
    """
    held, description = _read(path, SEGMENTATION_KEYS)
    tensors = {name: tensor for name, tensor in held.items() if not name.startswith(_TEACHER)}
    if weights == "teacher":
        tensors |= {name: held[_TEACHER + name] for name in tensors if _TEACHER + name in held}
    try:
        settings = TypeAdapter[Network](Network).validate_json(json.dumps(description["network"]))
        network = build_segmentation_network(settings, tensors["embeddings"], description["rois"])
    except (ValidationError, KeyError) as error:
        raise UserError(str(path), _OTHER_VERSION, _REMEDY) from error
    return _frozen(path, network, tensors, device), description


def load_roi_aware_model(path: Path, device: torch.device | str) -> tuple[nn.Module, dict[str, Any]]:
    """The ROI-aware network in eval mode on `device`, without gradients, and its description.

    Raises UserError if the file is missing, broken, or not a ROI-aware model of this version.
    """
    tensors, description = _read(path, ROI_AWARE_KEYS)
    try:
        roi_aware = RoiAware.model_validate_json(json.dumps(description["roi_aware"]))
    except ValidationError as error:
        raise UserError(str(path), _OTHER_VERSION, _REMEDY) from error
    network = build_roi_aware_network(roi_aware, len(description["structures"]))
    return _frozen(path, network, tensors, device), description


def _read(path: Path, keys: frozenset[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            description = json.loads((file.metadata() or {}).get(_DESCRIPTION, "{}"))
            if not description.keys() >= keys:
                raise _other_kind(path, description, keys)
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from error
    except SafetensorError as error:
        raise UserError(str(path), f"is not a complete safetensors file ({error})", _REMEDY) from error


def _frozen(path: Path, network: nn.Module, tensors: dict[str, Tensor], device: torch.device | str) -> nn.Module:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(str(path), _OTHER_VERSION, _REMEDY) from error
    return network.to(device).eval().requires_grad_(False)


def _other_kind(path: Path, description: dict[str, Any], wanted: frozenset[str]) -> UserError:
    """What the file is instead. It may be the only copy of a good model, so that nobody is told to delete it."""
    kind, place = _KINDS[wanted]
    for keys, (held, _) in _KINDS.items():
        if description.keys() >= keys:
            return UserError(str(path), f"is {held}, and {kind} is expected here", f"give one, such as {place}")
    if description.keys() & wanted:
        return UserError(str(path), _OTHER_VERSION, _REMEDY)
    return UserError(str(path), f"holds no network, and {kind} is expected here", f"give one, such as {place}")
