"""Replacing the layers of a network by others."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def replace(module: nn.Module, old: type[nn.Module], new: Callable[[nn.Module], nn.Module]) -> None:
    """Put `new(layer)` in the place of every layer of type `old` within `module`."""
    for name, child in module.named_children():
        if isinstance(child, old):
            setattr(module, name, new(child))
        else:
            replace(child, old, new)
