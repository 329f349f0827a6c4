"""From config to networks."""

from __future__ import annotations

from torch import Tensor, nn

from ..config.methods import Method, Networks
from ..config.optimisation import Checkpointing
from ..config.roi_aware import RoiAware
from .dodnet import DodNetwork
from .roi_aware import roi_aware_network
from .swin_unetr import TextConditionedSwinUnetr


def build_segmentation_network(
    method: Method,
    networks: Networks,
    embeddings: Tensor,
    gradient_checkpointing: Checkpointing = "none",
    fused_head: bool = True,
) -> nn.Module:
    """The segmentation network of `method`: image B 1 D H W in −1…1 → logits B K D H W.

    `embeddings` K×E (row k is ROI k's) become a buffer of the network and are saved with it.
    """
    if method.network == "dodnet":
        return DodNetwork(networks.dodnet, embeddings, gradient_checkpointing, fused_head)
    return TextConditionedSwinUnetr(networks.swin_unetr, embeddings, gradient_checkpointing, fused_head)


def build_roi_aware_network(roi_aware: RoiAware, count: int) -> nn.Module:
    """The ROI-aware network of `count` structures: image B 1 D H W in −1…1 → logits B `count`."""
    return roi_aware_network(roi_aware, count)
