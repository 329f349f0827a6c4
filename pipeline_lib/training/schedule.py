"""What changes while a training runs: the learning rate and the weight of the teacher's terms."""

from __future__ import annotations

import math

from ..config.methods import Method
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


def teacher_weight(progress: float, method: Method) -> float:
    """Factor of Eq. 2's and Eq. 3's weights at `progress`, the share of the training that is done (0…1).

    It is 0 during the warm-up, then rises over the ramp-up as exp(−5(1−t)²) with t from 0 to 1 (Laine and Aila,
    "Temporal ensembling", ICLR 2017), then is 1. With both fractions 0, the paper's silence, it is always 1.
    """
    since_warmup = progress - method.warmup_fraction
    if since_warmup < 0:
        return 0.0
    if since_warmup >= method.rampup_fraction:
        return 1.0
    return math.exp(-5 * (1 - since_warmup / method.rampup_fraction) ** 2)
