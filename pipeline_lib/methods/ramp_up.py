"""The weight of the teacher's terms over a training."""

from __future__ import annotations

import math


def teacher_weight(progress: float, warmup_fraction: float, rampup_fraction: float) -> float:
    """Factor of the weights of the teacher's terms at `progress`, the share of the training that is done (0…1).

    It is 0 during the warm-up, rises over the ramp-up as exp(−5(1−t)²) with t from 0 to 1 (Laine and Aila, "Temporal
    ensembling for semi-supervised learning", ICLR 2017), and is 1 from then on. With both fractions 0, as the paper
    names none, it is always 1.
    """
    since_warmup = progress - warmup_fraction
    if since_warmup < 0:
        return 0.0
    if since_warmup >= rampup_fraction:
        return 1.0
    return math.exp(-5 * (1 - since_warmup / rampup_fraction) ** 2)
