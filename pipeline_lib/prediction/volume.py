"""A CT on the grid and in the intensity window that networks see, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import blosc2
import numpy as np
from torch import nn

from ..geometry import Geometry
from ..inference.sliding_window import ReadImage, SlidingWindow
from ..volumes.resampling import image_volume
from ..volumes.store import read_box
from .ct import Ct
from .windows import compressed_probabilities


@dataclass(frozen=True, eq=False)
class Volume:
    """`ct` resampled to `grid`: `hu` is int16 D H W, clipped to an intensity window."""

    ct: Ct
    grid: Geometry
    hu: np.ndarray


def volume_grid(ct: Ct, spacing_mm: tuple[float, float, float]) -> Geometry:
    """The grid of voxels of `spacing_mm` (x, y, z) that covers `ct`, in the canonical frame."""
    return ct.grid.canonical().at_spacing(spacing_mm)


def volume_of(ct: Ct, spacing_mm: tuple[float, float, float], window_hu: tuple[float, float]) -> Volume:
    """`ct` in voxels of `spacing_mm` (x, y, z), clipped to `window_hu`."""
    grid = volume_grid(ct, spacing_mm)
    return Volume(ct, grid, image_volume(ct.image, grid, window_hu))


def image_reader(volume: Volume, window: SlidingWindow) -> ReadImage:
    """(start, shape) → int16 HU, D H W; outside the volume the low end of the intensity window."""
    outside = round(window.window_hu[0])
    return lambda start, shape: read_box(volume.hu, start, shape, outside)


def probabilities_in(
    volume: Volume,
    network: nn.Module,
    roi_count: int,
    window: SlidingWindow,
    on_windows: Callable[[int], None] = lambda count: None,
) -> blosc2.NDArray:
    """Probabilities of all ROIs on the volume's grid, uint8 K D H W, as compressed bytes in memory.

    `on_windows` is called with the number of windows just finished.
    """
    read_image = image_reader(volume, window)
    return compressed_probabilities(network, read_image, volume.grid.shape, roi_count, window, on_windows)
