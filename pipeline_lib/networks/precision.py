"""In which precision a network computes under autocast."""

from __future__ import annotations

import torch

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast_type(precision: str, device: torch.device) -> torch.dtype:
    """The type for the key `precision` on `device`; `auto` is bfloat16 where the hardware multiplies matrices of it.

    Those are GPUs, and CPUs with AMX tiles, on which a step takes half the time of float32 (docs/performance.md); other
    CPUs would only emulate it.
    """
    if precision == "auto":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
    return _TYPES[precision]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware of `device` has matrix products of bfloat16."""
    return device.type == "cuda" or torch.cpu._is_amx_tile_supported()
