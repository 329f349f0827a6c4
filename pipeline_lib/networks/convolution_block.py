"""nnU-Net's block: a convolution, InstanceNorm and LeakyReLU."""

from __future__ import annotations

from torch import nn

from .instance_norm import InstanceNorm

SLOPE = 0.01
"""Of LeakyReLU below 0."""
Sides = tuple[int, int, int]


def convolution_block(
    channels: int, out_channels: int, kernel: Sides = (3, 3, 3), stride: Sides = (1, 1, 1)
) -> nn.Module:
    """B C D H W → B `out_channels` D H W, each side divided by its `stride`."""
    return nn.Sequential(
        nn.Conv3d(channels, out_channels, kernel, stride, padding=tuple(side // 2 for side in kernel)),
        InstanceNorm(nn.InstanceNorm3d(out_channels, affine=True)),
        nn.LeakyReLU(SLOPE, inplace=True),
    )
