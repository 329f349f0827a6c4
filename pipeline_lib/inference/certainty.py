"""How certain a network is of a mask: one number from the probabilities that the mask was cut out of."""

from __future__ import annotations

import numpy as np

from ..volumes.resampling import FOREGROUND
from .sliding_window import PROBABILITY_STEPS

_SHARES = np.arange(PROBABILITY_STEPS + 1) / PROBABILITY_STEPS


def certainty(probability: np.ndarray) -> float | None:
    """Certainty of the mask in a ROI's probabilities (uint8 D H W, 0 … 255 for 0 … 1): 0 … 1; None for an empty mask.

    It is the soft Dice of mask M and probabilities p, 2 Σ_M p / (|M| + Σ p): about what Dice is to be expected if the
    probabilities are right, which those of trained networks are not. Calibration (config.confidence) makes it a Dice.
    """
    counts = np.zeros(PROBABILITY_STEPS + 1, np.int64)
    # Slice by slice: counting makes 8 bytes of each byte. Nearly all voxels are 0 and add nothing.
    for plane in probability:
        seen = plane[plane > 0]
        if seen.size:
            counts += np.bincount(seen, minlength=len(counts))
    voxels = int(counts[FOREGROUND:].sum())
    if voxels == 0:
        return None
    mass = counts * _SHARES
    return float(2 * mass[FOREGROUND:].sum() / (voxels + mass.sum()))
