"""What a volume's window cuts off below it, kept small and for pictures alone: lungs, in a window for soft tissue.

Each block of 2×2×2 voxels has one byte: how far its voxels that were cut off lie below the window, on average, in steps
of 8 HU. Voxels that were not cut off are in the volume itself, at its own resolution.
"""

from __future__ import annotations

import numpy as np

from .resampling import LEAST_HU

_BLOCK = 2
_STEP_HU = 8


def cuts_off(low_hu: float) -> bool:
    """Whether a window that begins at `low_hu` lacks anything that a CT has."""
    return low_hu > LEAST_HU


def below_window(hu: np.ndarray, low_hu: float) -> np.ndarray:
    """uint8, half of each side of `hu` (int16 HU D H W, rounded up): steps below the window; 0 where nothing is."""
    blocks = [np.arange(0, side, _BLOCK) for side in hu.shape]
    steps = np.zeros([len(starts) for starts in blocks], np.uint8)
    for place, start in enumerate(blocks[0]):
        depth = np.maximum(round(low_hu) - hu[start : start + _BLOCK].astype(np.int32), 0)
        total, count = (_summed(values, blocks[1:]) for values in (depth.sum(axis=0), (depth > 0).sum(axis=0)))
        steps[place] = np.minimum(np.rint(total / np.maximum(count, 1) / _STEP_HU), np.iinfo(np.uint8).max)
    return steps


def with_below_window(image: np.ndarray, steps: np.ndarray, low_hu: float) -> np.ndarray:
    """int16 HU D H W: the volume's `image`, and under the window's low end what `steps` say of it."""
    low, whole = round(low_hu), image.copy()
    for place, plane in enumerate(whole):
        rows, columns = plane.shape
        block = steps[place // _BLOCK].astype(np.int16).repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)
        plane -= np.where(plane <= low, _STEP_HU * block[:rows, :columns], 0).astype(np.int16)
    return whole


def _summed(plane: np.ndarray, blocks: list[np.ndarray]) -> np.ndarray:
    return np.add.reduceat(np.add.reduceat(plane, blocks[0], axis=0), blocks[1], axis=1)
