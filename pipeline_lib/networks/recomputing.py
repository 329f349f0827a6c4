"""Activation checkpointing: backward recomputes what forward did not keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..config.optimisation import Checkpointing, Execution


def checkpointing(execution: Execution, device: torch.device) -> Checkpointing:
    """What the key `gradient_checkpointing` means on `device`.

    On a CPU the transformer takes an eighth more time so and no less memory at sizes that one trains there
    (docs/performance.md).
    """
    if execution.gradient_checkpointing == "auto":
        return "none" if device.type == "cpu" else "transformer"
    return execution.gradient_checkpointing


def recomputed(layers: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """`layers(*arguments)`; where gradients are wanted only the arguments are kept, not what lies between.

    The state of the random numbers is not kept: the layers must not draw any.
    """
    if not torch.is_grad_enabled():
        return layers(*arguments)
    return checkpoint(layers, *arguments, use_reentrant=False, preserve_rng_state=False)
