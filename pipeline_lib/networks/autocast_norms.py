"""GroupNorm and LayerNorm that autocast leaves in the type of their input.

On a GPU, autocast computes both in float32: the input is copied to float32, backward keeps that copy, and the output is
float32 too, which the next layer casts back. The head's GroupNorm alone took a sixth of a step's peak
(docs/performance.md). torch's kernels sum in float32 whatever type they read. The price: input, parameters and output
are rounded, and kernels keep a group's mean and deviation for backward in the type of the input. On a CPU in bfloat16,
where autocast alone would have kept them exact, GroupNorm's gradients were off by 0.1 to 0.6 % where a group's mean was
below its deviation, as in our networks. Where it was ten times as large, that of the weight was off by a third.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """torch's, except under autocast."""

    def forward(self, values: Tensor) -> Tensor:
        """B C … → the same, in the same type under autocast."""
        if not torch.is_autocast_enabled(values.device.type):
            return super().forward(values)
        with torch.autocast(values.device.type, enabled=False):
            return F.group_norm(values, self.num_groups, *_cast(self, values.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """torch's, with the parameters of `norm`, except under autocast."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, norm.eps)  # type: ignore[arg-type]
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, values: Tensor) -> Tensor:
        """… C → the same, in the same type under autocast."""
        if not torch.is_autocast_enabled(values.device.type):
            return super().forward(values)
        with torch.autocast(values.device.type, enabled=False):
            return F.layer_norm(values, self.normalized_shape, *_cast(self, values.dtype), self.eps)


def normed_channels(values: Tensor) -> Tensor:
    """B C D H W → the same: the channels of each voxel with mean 0 and variance 1, in the same type under autocast."""
    with torch.autocast(values.device.type, enabled=False):
        return F.layer_norm(values.permute(0, 2, 3, 4, 1), values.shape[1:2]).permute(0, 4, 1, 2, 3)


def _cast(norm: nn.GroupNorm | nn.LayerNorm, dtype: torch.dtype) -> list[Tensor | None]:
    """Weight and bias, of the input's type as a GPU's kernels want them."""
    return [None if each is None else each.to(dtype) for each in (norm.weight, norm.bias)]
