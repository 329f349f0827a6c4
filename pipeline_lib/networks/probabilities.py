"""The one place that turns logits into probabilities: one sigmoid per ROI, because ROIs overlap."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each ROI at each voxel, in at least float32, same shape as `logits`."""
    return torch.sigmoid(at_least_float32(logits))


def at_least_float32(values: Tensor) -> Tensor:
    """`values` with half-precision widened to float32; float32 and float64 stay as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
