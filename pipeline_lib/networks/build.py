"""From config to networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config.networks import Network
from ..config.optimisation import Checkpointing
from ..config.roi_aware import RoiAware
from .conemos.network import ConemosNetwork
from .conemos.settings import ConemosUnet
from .dodnet.network import DodNetwork
from .dodnet.settings import DodNet
from .hermes.network import HermesNetwork
from .hermes.settings import HermesUnet
from .per_data_set import OneNetworkPerDataSet
from .roi_aware import roi_aware_network
from .swin_unetr.network import PromptedSwinUnetr, TextConditionedSwinUnetr
from .swin_unetr.settings import SwinUnetr
from .uniseg_unet.network import UnisegNetwork
from .uniseg_unet.settings import UnisegUnet

BuiltNetwork = (
    DodNetwork
    | TextConditionedSwinUnetr
    | PromptedSwinUnetr
    | ConemosNetwork
    | HermesNetwork
    | UnisegNetwork
    | OneNetworkPerDataSet
)


class SegmentationNetwork(Protocol):
    """A module of image B 1 D H W in −1…1 → logits B K D H W, and what it says about itself.

    `channels_last_on_cpu` is whether its training on a CPU in float32 gains from channels last; its `for_prediction`
    gives the form in which it predicts fastest on a device in a precision. One that has parts for each data set says
    `answers_per_data_set`, and takes the samples' data sets too, int64 B, in training. One whose settings say
    `has_features`, and no `per_data_set`, also returns its last features, B `feature_channels` D H W, if called with
    `with_features`.
    """

    channels_last_on_cpu: bool

    def __call__(self, image: Tensor) -> Tensor: ...

    def for_prediction(self, device: torch.device, precision: torch.dtype) -> nn.Module: ...


def build_segmentation_network(
    network: Network,
    embeddings: Tensor,
    rois: Sequence[str],
    gradient_checkpointing: Checkpointing = "none",
    fused_head: bool = True,
    labelled: Sequence[Sequence[str]] = (),
    patch: tuple[int, int, int] = (0, 0, 0),
) -> BuiltNetwork:
    """The segmentation network that `network` describes, a `SegmentationNetwork`.

    `embeddings` K×E (row k is that of `rois[k]`) become a buffer of the network and are saved with it. `labelled` are
    the ROIs of each data set, for networks that have parts for each, and `patch` D H W is the size of all images, for
    those that must know.
    """
    own = [[rois.index(roi) for roi in of_data_set] for of_data_set in labelled]
    if network.per_data_set == "network":
        shared = network.model_copy(update={"per_data_set": None})
        parts = [
            build_segmentation_network(shared, embeddings[places], names, gradient_checkpointing, fused_head)
            for places, names in zip(own, labelled, strict=True)
        ]
        return OneNetworkPerDataSet(parts, own, embeddings)
    match network:
        case SwinUnetr(per_data_set="prompt"):
            return PromptedSwinUnetr(network, embeddings, gradient_checkpointing, own, patch)
        case SwinUnetr():
            return TextConditionedSwinUnetr(network, embeddings, gradient_checkpointing, fused_head, own)
        case DodNet():
            return DodNetwork(network, embeddings, rois, gradient_checkpointing, fused_head)
        case ConemosUnet():
            return ConemosNetwork(network, embeddings, gradient_checkpointing)
        case HermesUnet():
            return HermesNetwork(network, embeddings, gradient_checkpointing)
        case UnisegUnet():
            return UnisegNetwork(network, embeddings, gradient_checkpointing, own, patch)


def build_roi_aware_network(roi_aware: RoiAware, count: int) -> nn.Module:
    """The ROI-aware network of `count` structures: image B 1 D H W in −1…1 → logits B `count`."""
    return roi_aware_network(roi_aware, count)
