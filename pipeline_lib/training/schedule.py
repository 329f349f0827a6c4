"""The learning rate over a training."""

from __future__ import annotations

import math

from ..config.optimisation import Optimisation


def learning_rate(epoch: float, optimisation: Optimisation) -> float:
    """Learning rate at `epoch`, a real number (epoch 2.5 is halfway through the third): 0 ≤ `epoch` ≤ `epochs`.

    It rises linearly over `warmup_epochs` and then falls to 0 as half a cosine ([LC]: cosine annealing).
    """
    warmup, highest = optimisation.warmup_epochs, optimisation.learning_rate
    if epoch < warmup:
        return highest * epoch / warmup
    progress = (epoch - warmup) / (optimisation.epochs - warmup)
    return highest * (1 + math.cos(math.pi * progress)) / 2
