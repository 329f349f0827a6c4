"""Computing again in backward what forward did not keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def recomputed(layers: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """`layers(*arguments)`; where gradients are wanted only the arguments are kept, not what lies between.

    The state of the random numbers is not kept: the layers must not draw any.
    """
    if not torch.is_grad_enabled():
        return layers(*arguments)
    return checkpoint(layers, *arguments, use_reentrant=False, preserve_rng_state=False)
