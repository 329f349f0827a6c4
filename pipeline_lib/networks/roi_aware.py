"""The ROI-aware network: a 3D ResNet-18 with one logit per structure."""

from __future__ import annotations

from torch import nn

from ..config.roi_aware import RoiAware
from ..monai_parts import ResNet, ResNetBlock

_BLOCKS = [2, 2, 2, 2]


def roi_aware_network(roi_aware: RoiAware, structures: int) -> nn.Module:
    """ResNet-18 of B 1 D H W → logits B `structures`.

    It has BatchNorm, so whoever uses it frozen must put it in eval mode.
    """
    return ResNet(
        block=ResNetBlock,
        layers=_BLOCKS,
        block_inplanes=[roi_aware.width * 2**stage for stage in range(4)],
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=roi_aware.first_stride,
        num_classes=structures,
        feed_forward=True,
    )
