"""Instance normalisation whose output may be changed in place at no cost."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """torch's `InstanceNorm3d` without running statistics: the same parameters and results.

    torch's own returns a view. MONAI's blocks add to it and activate it in place, and backward of what is done in place
    to a view copies the whole gradient twice for each such operation.
    """

    def __init__(self, norm: nn.InstanceNorm3d | InstanceNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, values: Tensor) -> Tensor:
        """B C D H W → the same: each map with mean 0 and variance 1, scaled and shifted if there are parameters."""
        B, C = values.shape[:2]
        weight, bias = (None if each is None else each.repeat(B) for each in (self.weight, self.bias))
        # A single sample with channels last could be viewed as it is, and on a CPU would then be summed inexactly.
        maps = values.contiguous().view(1, B * C, *values.shape[2:])
        normed = F.batch_norm(maps, None, None, weight, bias, training=True, eps=self.eps)
        return torch.ops.aten._unsafe_view(normed, values.shape)


class ExportedInstanceNorm(InstanceNorm):
    """torch's own operation, as other runtimes have it too: they do not support batch norm in training mode."""

    def forward(self, values: Tensor) -> Tensor:
        return F.instance_norm(values, weight=self.weight, bias=self.bias, eps=self.eps)
