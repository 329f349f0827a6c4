"""From config to networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..config.networks import Network
from ..config.optimisation import Checkpointing
from ..config.roi_aware import RoiAware
from .dodnet.network import DodNetwork
from .dodnet.settings import DodNet
from .roi_aware import roi_aware_network
from .swin_unetr.network import TextConditionedSwinUnetr
from .swin_unetr.settings import SwinUnetr


class SegmentationNetwork(Protocol):
    """A module of image B 1 D H W in −1…1 → logits B K D H W, and what it says about itself.

    `channels_last_on_cpu` is whether its training on a CPU in float32 gains from channels last; its `for_prediction`
    gives the form in which it predicts fastest on a device in a precision.
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
) -> DodNetwork | TextConditionedSwinUnetr:
    """The segmentation network that `network` describes, a `SegmentationNetwork`.

    `embeddings` K×E (row k is that of `rois[k]`) become a buffer of the network and are saved with it.
    """
    match network:
        case SwinUnetr():
            return TextConditionedSwinUnetr(network, embeddings, gradient_checkpointing, fused_head)
        case DodNet():
            return DodNetwork(network, embeddings, rois, gradient_checkpointing, fused_head)


def build_roi_aware_network(roi_aware: RoiAware, count: int) -> nn.Module:
    """The ROI-aware network of `count` structures: image B 1 D H W in −1…1 → logits B `count`."""
    return roi_aware_network(roi_aware, count)
