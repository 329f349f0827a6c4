"""In which precision a network computes under autocast."""

from __future__ import annotations

import torch
from torch import Tensor

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast_type(precision: str, device: torch.device, training: bool = True) -> torch.dtype:
    """The type for the key `precision` on `device`; `auto` is bfloat16 where the hardware multiplies matrices of it.

    Those are GPUs and CPUs with AMX tiles, on which a training step takes half the time of float32; and for prediction
    also CPUs that have AVX-512's bfloat16 alone, on which gradients were wrong (docs/performance.md). Other CPUs would
    only emulate it.
    """
    if precision == "auto":
        fast = multiplies_bfloat16(device) or (not training and torch.cpu._is_avx512_bf16_supported())
        return torch.bfloat16 if fast else torch.float32
    return _TYPES[precision]


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware of `device` has matrix products of bfloat16."""
    return device.type == "cuda" or torch.cpu._is_amx_tile_supported()


def precision_of_products(values: Tensor) -> torch.dtype:
    """Autocast's precision where it is on, else that of `values`."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype
