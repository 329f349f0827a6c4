"""What a patch that is flipped along x says about whatever has a side: the left becomes the right one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..label_bits import unpack

Partners = Sequence[int | None]
"""For each of K targets, the number of the one that becomes it in a mirror image; None: nothing is known of it there.
Empty: no target has a side."""


def mirrored_flags(labelled: NDArray[np.bool_], partners: Partners) -> NDArray[np.bool_]:
    """Which targets the mirrored patch labels, bool K, from those that the patch labels."""
    return np.array([other is not None and labelled[other] for other in partners], bool)


def mirrored_scores(scores: NDArray[np.float32], partners: Partners) -> NDArray[np.float32]:
    """Existence scores of the mirrored patch, float32 K; NaN where nothing is known."""
    return np.array([np.nan if other is None else scores[other] for other in partners], np.float32)


def mirrored_combinations(combinations: NDArray[np.uint8], partners: Partners) -> NDArray[np.uint8]:
    """The table of label bits (uint8 C P; volumes.label_codes) that gives codes their meaning in the mirrored patch."""
    bits = unpack(combinations, len(partners), axis=1)
    mirrored = np.zeros_like(bits)
    for target, other in enumerate(partners):
        if other is not None:
            mirrored[:, target] = bits[:, other]
    return np.packbits(mirrored, axis=1, bitorder="little")
