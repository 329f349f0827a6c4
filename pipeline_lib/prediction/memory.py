"""Does a prediction fit into memory? Asked before it starts: the system kills what does not, without a word."""

from __future__ import annotations

import math

from ..errors import UserError
from ..geometry import Geometry
from ..inference.sliding_window import SlidingWindow
from ..machine import available_memory
from .ct import Ct

_FLOAT, _HU = 4, 2
"""Bytes of a number."""
_COMPRESSED = 50
"""How many times smaller than a byte per voxel and ROI the probabilities are at the least."""


def least_memory(ct: Ct, volume_grid: Geometry, rois: int, window: SlidingWindow) -> int:
    """Bytes of main memory that a prediction takes besides the CT itself, the network's own left out."""
    depth, height, width = volume_grid.shape
    plane = height * width
    # The slab's sums lie where the network computes; its finished slices come back as bytes.
    slab = min(window.shape[0], depth) * plane * rois * (_FLOAT if window.device.type == "cpu" else 1)
    kept = depth * plane * rois // _COMPRESSED
    return slab + kept + depth * plane * _HU + math.prod(ct.grid.size)


def check_memory(ct: Ct, volume_grid: Geometry, rois: int, window: SlidingWindow) -> None:
    """Raise UserError if there is certainly too little memory to segment `ct`."""
    needed, free = least_memory(ct, volume_grid, rois, window), available_memory()
    if needed > free:
        sides = "×".join(str(side) for side in volume_grid.size)
        wrong = (
            f"needs at least {needed / 1e9:.1f} GB of memory for {rois} ROIs at {sides} voxels, "
            f"and {free / 1e9:.1f} GB are free"
        )
        raise UserError(ct.source, wrong, "free some, crop the CT, or use a larger machine")
