"""Does a prediction fit into memory? Asked before it starts: the system kills what does not, without a word."""

from __future__ import annotations

import math

from ..errors import UserError
from ..geometry import Geometry
from ..inference.sliding_window import SlidingWindow, occupied_box
from ..machine import available_memory
from .ct import Ct
from .volume import Volume, image_reader

_FLOAT, _HU = 4, 2
"""Bytes of a number."""
_COMPRESSED = 50
"""How many times smaller than a byte per voxel and ROI the probabilities are at the least."""


def least_memory(volume: Volume, rois: int, window: SlidingWindow) -> int:
    """Bytes of main memory that a prediction takes besides the CT and the volume, the network's own left out."""
    start, stop = occupied_box(image_reader(volume, window), volume.grid.shape, window)
    depth, height, width = (last - first for first, last in zip(start, stop, strict=True))
    # The slab's sums lie where the network computes; its finished slices come back as bytes.
    slab = min(window.shape[0], depth) * height * width * rois * (_FLOAT if window.device.type == "cpu" else 1)
    return slab + depth * height * width * rois // _COMPRESSED + math.prod(volume.ct.grid.size)


def check_volume_memory(ct: Ct, volume_grid: Geometry, rois: int) -> None:
    """Raise UserError if there is certainly too little memory for `ct` on the model's grid."""
    _check(math.prod(volume_grid.size) * _HU, ct, volume_grid, rois)


def check_memory(volume: Volume, rois: int, window: SlidingWindow) -> None:
    """Raise UserError if there is certainly too little memory to segment `volume`."""
    _check(least_memory(volume, rois, window), volume.ct, volume.grid, rois)


def _check(needed: int, ct: Ct, volume_grid: Geometry, rois: int) -> None:
    free = available_memory()
    if needed > free:
        sides = "×".join(str(side) for side in volume_grid.size)
        wrong = (
            f"needs at least {needed / 1e9:.1f} GB of memory for {rois} ROIs at {sides} voxels, "
            f"and {free / 1e9:.1f} GB are free"
        )
        raise UserError(ct.source, wrong, "free some, crop the CT, or use a larger machine")
