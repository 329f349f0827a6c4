"""In which order a network that learns keeps the values of its maps in memory."""

from __future__ import annotations

import torch

from ..config.optimisation import Execution
from .precision import autocast_type

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}


def memory_format(execution: Execution, device: torch.device) -> torch.memory_format:
    """The order for the key `memory_format`; weights that have it pass it on to all maps.

    `auto` is channels last on a CPU in float32, where a step takes 0.87 of the time (docs/performance.md). It brought
    nothing in bfloat16 there, and nothing was measured on a GPU.
    """
    if execution.memory_format != "auto":
        return _FORMATS[execution.memory_format]
    float32 = autocast_type(execution.precision, device) == torch.float32
    return _FORMATS["channels_last" if device.type == "cpu" and float32 else "contiguous"]
