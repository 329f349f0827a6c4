"""The order in which a network in training keeps the values of its maps in memory."""

from __future__ import annotations

import torch
from torch import nn

from ..config.optimisation import Execution
from .precision import autocast_type

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def memory_format(execution: Execution, network: nn.Module, device: torch.device) -> torch.memory_format:
    """The order for the key `memory_format`; weights that have it pass it on to all maps.

    `auto` is channels last on a CPU in float32 for a network that sets `channels_last_on_cpu`, as SwinUNETR does: its
    step takes 0.87 of the time and rounds no worse (docs/performance.md). With GroupNorm throughout, as in DoDNet,
    PyTorch's sums over channels last make gradients wrong by a few thousandths; the ROI-aware network gains nothing,
    nor does bfloat16. On an H100 channels last took 1.4 times as long.
    """
    if execution.memory_format != "auto":
        return _FORMATS[execution.memory_format]
    float32 = autocast_type(execution.precision, device) == torch.float32
    gains = device.type == "cpu" and float32 and getattr(network, "channels_last_on_cpu", False)
    return _FORMATS["channels_last" if gains else "contiguous"]
