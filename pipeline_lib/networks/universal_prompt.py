"""UniSeg's learned prompt: what the bottleneck says to each task, here to each data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .instance_norm import InstanceNorm


class UniversalPrompt(nn.Module):
    """`count` maps of the bottleneck's size, learned for all images, and mixed with the features of one.

    Three blocks of 3×3×3 convolution, InstanceNorm and LeakyReLU take the C `channels` of the bottleneck and all T
    maps, C + T, to (C + T) // 4 twice and to T, one for each data set.
    """

    def __init__(self, channels: int, count: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.universal = nn.Parameter(torch.randn(1, count, *shape))
        hidden = (channels + count) // 4
        self.fusion = nn.Sequential(_block(channels + count, hidden), _block(hidden, hidden), _block(hidden, count))

    def forward(self, bottleneck: Tensor) -> Tensor:
        """B C D H W → B T D H W."""
        universal = self.universal.to(bottleneck.dtype).expand(len(bottleneck), -1, -1, -1, -1)
        return self.fusion(torch.cat([bottleneck, universal], 1))


def _block(channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(channels, out_channels, kernel_size=3, padding=1),
        InstanceNorm(nn.InstanceNorm3d(out_channels, affine=True)),
        nn.LeakyReLU(0.01),
    )
