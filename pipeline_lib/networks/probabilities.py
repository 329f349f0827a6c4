"""The one place that turns logits into probabilities: one sigmoid per ROI, because ROIs overlap."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Probability of each ROI at each voxel, in at least float32, same shape as `logits`."""
    wide = at_least_float32(logits)
    # A copy that was made here is changed in place: K maps of a window are a large part of a prediction's memory.
    return torch.sigmoid(wide) if wide is logits else wide.sigmoid_()


def at_least_float32(values: Tensor) -> Tensor:
    """`values` with half-precision widened to float32; float32 and float64 stay as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
