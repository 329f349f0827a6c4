"""Sharpening of a teacher's output ([LC], Eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks.probabilities import at_least_float32


def sharpened_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """The sharpened output ȳ of [LC] Eq. 2, computed from the logits: same shape, at least float32.

    With p = σ(z), the ratio p / (1 − p) is exp(z). Eq. 2's p^(1/τ) / (p^(1/τ) + (1 − p)^(1/τ)) is therefore
    1 / (1 + exp(−z/τ)) = σ(z/τ), which needs no power that under- or overflows.
    """
    return torch.sigmoid(at_least_float32(logits) / temperature)
