"""What a training begins with in place of random weights: a segmentation model, or SwinUNETR's self-supervised ones.

Self-supervised weights come in the layouts of MONAI's files and of what its training code writes:

- model_swinvit.pt (Tang et al., "Self-supervised pre-training of Swin transformers for 3D medical image analysis", CVPR
  2022): the transformer's tensors under `state_dict`, with names that begin with `module.` and with `fc1` and `fc2` for
  the layers that are now called `linear1` and `linear2`;
- what that training writes today: names that begin with `swin_vit.` or `swinViT.`, after `module.` if several GPUs took
  part, under `state_dict` or at the top of the file;
- ssl_pretrained_weights.pth (Valanarasu et al., "Disruptive autoencoders: leveraging low-level features for 3D medical
  image pre-training", 2023): under `model`, names that begin with `encoder.` and have one more `0.` after a stage's.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config.method_settings import is_self_supervised
from ..config.networks import Network
from ..errors import UserError
from .build import build_segmentation_network
from .dynamic_head import LEAST_SCALE, embedding_statistics
from .model_file import load_segmentation_model

_EMBEDDINGS = "embeddings"
_MEAN, _SCALE = "head.embedding_mean", "head.embedding_scale"
_TRANSFORMER = "trunk.swinViT."
_OF_TRANSFORMER = re.compile(r"(patch_embed|layers[1-4])\.")
_CONTAINERS = ("state_dict", "model")
_PREFIX = re.compile(r"^(module\.)?((swinViT|swin_vit|encoder)\.)?")
_NESTED_STAGE = re.compile(r"^(layers[1-4]\.0)\.0\.")
_TOLERANCE = 1e-3
"""By how much a ROI's embedding may differ, in root mean squares: another machine rounds otherwise."""


@dataclass(frozen=True)
class Start:
    """Tensors by their names in the network that starts, and in one line what they are (`taken`).

    `model` is the frozen network that they come from, which segments `rois`, and `description` what its file says of
    it; None and nothing for self-supervised weights.
    """

    tensors: Mapping[str, Tensor]
    taken: str
    model: nn.Module | None = None
    rois: tuple[str, ...] = ()
    description: Mapping[str, Any] = field(default_factory=dict)

    def load_into(self, network: nn.Module) -> None:
        """Give `network` the tensors; it keeps its own embeddings, and its first weights where there are none."""
        network.load_state_dict({**network.state_dict(), **self.tensors})


@dataclass(frozen=True)
class Wanted:
    """The network that starts: `embeddings` K×E of `rois`, and what its images are like."""

    network: Network
    embeddings: Tensor
    rois: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]


def read_start(path: Path, wanted: Wanted) -> Start:
    """What the file `path` gives to a network; UserError: it is missing, broken or unsafe, or does not fit."""
    if wanted.network.per_data_set is not None:
        wrong = "cannot be the start of a network that has parts for each data set"
        raise _misfit(path, wrong, "leave out `start_from`, or name a network without `per_data_set`")
    return _self_supervised(path, wanted) if is_self_supervised(path) else _model(path, wanted)


def _model(path: Path, wanted: Wanted) -> Start:
    model, description = load_segmentation_model(path, "cpu")
    _check_network(path, description, wanted)
    tensors, rois = model.state_dict(), tuple(description["rois"])
    _check_conditions(path, tensors, rois, wanted)
    if _SCALE in tensors and tensors[_SCALE] <= LEAST_SCALE:
        # A single ROI had no spread. Its own condition stays 0, whatever the scale.
        tensors[_SCALE] = embedding_statistics(wanted.embeddings, tensors[_MEAN])[1]
    del tensors[_EMBEDDINGS]
    kept = [roi for roi in wanted.rois if roi in rois]
    taken = f"{path}, which knows {len(kept)} of {len(wanted.rois)} ROIs"
    if new := [roi for roi in wanted.rois if roi not in rois]:
        taken += f"; new: {', '.join(new)}"
    if left := [roi for roi in rois if roi not in wanted.rois]:
        taken += f"; left out: {', '.join(left)}"
    return Start(tensors, taken, model, rois, description)


def _check_network(path: Path, description: Mapping[str, Any], wanted: Wanted) -> None:
    held = description["network"]
    sizes = wanted.network.model_dump(mode="json")
    if other := [f"{key} {held[key]}" for key, value in sizes.items() if held.get(key, value) != value]:
        raise _misfit(path, f"holds another network ({', '.join(other)})", "give that of `networks` the same values")
    for key, value in (("spacing_mm", wanted.spacing_mm), ("window_hu", wanted.window_hu)):
        if tuple(description[key]) != value:
            raise _misfit(path, f"was trained with {key} {description[key]}", f"set `volumes.{key}` to that")


def _check_conditions(path: Path, tensors: Mapping[str, Tensor], rois: tuple[str, ...], wanted: Wanted) -> None:
    """Refuse a model that would be asked for its ROIs by other embeddings, or other places, than it learned."""
    held, embeddings = tensors[_EMBEDDINGS], wanted.embeddings
    if _SCALE not in tensors:
        # Without a text head a ROI is its place in the list, or its task and its place there.
        codes_differ = wanted.network.conditioning == "one_hot" and not torch.equal(held, embeddings)
        if rois != wanted.rois or codes_differ:
            wrong = f"knows {', '.join(rois)} by their places and data sets, not by text"
            raise _misfit(path, wrong, "give the same ROIs and data sets, or use a network with a text head")
        return
    same_encoder = "use the text encoder, the prompt and the ROIs' `text` with which it was trained"
    if held.shape[1] != embeddings.shape[1]:
        wrong = f"was trained with embeddings of {held.shape[1]} numbers, not {embeddings.shape[1]}"
        raise _misfit(path, wrong, same_encoder)
    largest = _TOLERANCE * embedding_statistics(embeddings)[1].item()
    for row, roi in zip(embeddings, wanted.rois, strict=True):
        if roi in rois and (row - held[rois.index(roi)]).abs().max() > largest:
            raise _misfit(path, f"was trained with another embedding of {roi}", same_encoder)


def _self_supervised(path: Path, wanted: Wanted) -> Start:
    """The tensors of the transformer; what else the file has (heads of its own tasks, a last norm) is left there."""
    fresh = build_segmentation_network(wanted.network, wanted.embeddings, wanted.rois).state_dict()
    mine = {name.removeprefix(_TRANSFORMER): tensor for name, tensor in fresh.items() if name.startswith(_TRANSFORMER)}
    if not mine:
        wrong = "is a file of SwinUNETR's transformer, and this network has none"
        raise _misfit(path, wrong, "choose a network of kind swin_unetr, or a model file (.safetensors)")
    held = {_current_name(name): tensor for name, tensor in _read_pickled(path).items()}
    names = [name for name in mine if _OF_TRANSFORMER.match(name)]
    for name in [*names, *filter(_OF_TRANSFORMER.match, held)]:
        if (there := _shape(name, held)) != (here := _shape(name, mine)):
            wrong = f"does not fit: {name} is {there} there and {here} in the network"
            raise _misfit(path, wrong, "give the network the sizes of the weights (published: all at their defaults)")
    taken = f"{path}: {len(names)} tensors of the transformer; all else starts with random weights"
    if left := sorted({name.split(".")[0] for name in held.keys() - set(names)}):
        taken += f"; left in the file: {', '.join(left)}"
    return Start({_TRANSFORMER + name: held[name] for name in names}, taken)


def _read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of torch.save, which may run no code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _misfit(path, f"cannot be read ({error.strerror or error})", "check the path") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        wrong = "is damaged, or holds more than weights, which could run code"
        raise _misfit(path, wrong, "fetch MONAI's model_swinvit.pt again") from error
    held = content if isinstance(content, dict) else {}
    tensors = next((held[key] for key in _CONTAINERS if isinstance(held.get(key), dict)), held)
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise _misfit(path, "has no tensors under `state_dict` or `model`", "give MONAI's model_swinvit.pt")
    return dict(tensors)


def _current_name(name: str) -> str:
    """What MONAI's SwinTransformer calls the tensor now."""
    name = _NESTED_STAGE.sub(r"\1.", _PREFIX.sub("", name))
    return name.replace(".mlp.fc1.", ".mlp.linear1.").replace(".mlp.fc2.", ".mlp.linear2.")


def _shape(name: str, tensors: Mapping[str, Tensor]) -> str:
    return "×".join(map(str, tensors[name].shape)) if name in tensors else "missing"


def _misfit(path: Path, wrong: str, remedy: str) -> UserError:
    return UserError(f"start_from: {path}", wrong, remedy)
