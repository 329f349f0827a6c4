"""From the original grid to the volume's, and back.

On axis-aligned grids (nearly all CT) three small matrices do it all; oblique grids are first turned upright.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import SimpleITK as sitk

from ..geometry import Geometry, to_canonical
from ..label_bits import add_mask, bits_dtype
from .interpolation import Matrices, cubic, interpolated, interpolation_matrices, linear
from .record import CaseRecord

AIR_HU = -1024
# Beyond what a CT measures lie padding and metal, and the cubic kernel would ring beside them. Padding becomes air.
LEAST_HU = -1300
_METAL_ABOVE_HU = 4095

# Halves come out of the sums a little more or less than themselves, and not the same on every machine.
_HALF = 0.5 - 1e-4

FOREGROUND = 128
"""Lowest byte (0 … 255 for the probability 0 … 1) that is taken for foreground."""

Box = tuple[slice, slice, slice]
Finish = Callable[[np.ndarray], np.ndarray]
"""Turns float32 blocks, which it may write into, into the values of a result."""


def image_volume(image: sitk.Image, volume_grid: Geometry, window_hu: tuple[float, float]) -> np.ndarray:
    """The CT (HU) on the volume's grid: int16 D H W, clipped to the window."""
    low, high = window_hu
    image = _without_extremes(image, min(low, LEAST_HU), max(high, _METAL_ABOVE_HU))
    array, upright = upright_image(image, AIR_HU)

    def to_hu(block: np.ndarray) -> np.ndarray:
        np.clip(block, low, high, out=block)
        return np.rint(block, out=block)

    return interpolated(array, interpolation_matrices(upright, volume_grid, cubic, antialias=True), np.int16, to_hu)


def mask_volume(mask: np.ndarray, original: Geometry, volume_grid: Geometry) -> tuple[Box, np.ndarray]:
    """A mask (bool D H W on the original grid) on the volume's: a box that holds all of it, and bool D H W in the box.

    Cubic interpolation thresholded at one half. docs/volumes.md compares it with the nearest voxel, which loses more of
    vessels and small tumours on the way to the volume and back.
    """
    if original.is_oblique:
        array, upright = upright_image(original.image(mask.astype(np.float32)), 0)
    else:
        array, upright = to_canonical(mask, original), original.canonical()
    matrices = interpolation_matrices(upright, volume_grid, cubic, antialias=False)
    return _interpolated_in_box(array, matrices, bool, lambda block: block >= _HALF)


def masks_on_original_grid(probabilities: Iterable[np.ndarray], record: CaseRecord) -> np.ndarray:
    """ROI bits (unsigned, D H W) on the case's original grid.

    `probabilities` has one array D H W on the volume's grid for each ROI in order: bool, uint8 (0 … 255 for 0 … 1) or
    float in 0 … 1. Each is interpolated linearly and thresholded at one half, one ROI at a time.
    """
    original = record.original
    bits = np.zeros(original.shape, np.uint8)
    for roi, probability in enumerate(probabilities):
        bits = bits.astype(bits_dtype(roi + 1), copy=False)
        half = 255 * _HALF if probability.dtype == np.uint8 else _HALF
        box, mask = _on_original_grid(probability, record.grid, original, bool, lambda block, half=half: block >= half)
        add_mask(to_canonical(bits, original), roi, mask, box)
    return bits


def probability_on_original_grid(
    probability: np.ndarray, volume_grid: Geometry, original: Geometry
) -> tuple[Box, np.ndarray]:
    """A ROI's probability (uint8 D H W, 0 … 255 for 0 … 1) on the original grid: a box, and uint8 in it; 0 elsewhere.

    The box is one of the original array's view `to_canonical`. A byte is at least `FOREGROUND` exactly where
    `masks_on_original_grid` has the ROI.
    """

    def to_bytes(block: np.ndarray) -> np.ndarray:
        inside = block >= 255 * _HALF
        np.rint(block, out=block)
        return np.where(inside, np.maximum(block, FOREGROUND), block)

    return _on_original_grid(probability, volume_grid, original, np.uint8, to_bytes)


def _on_original_grid(
    probability: np.ndarray, volume_grid: Geometry, original: Geometry, dtype: type, finish: Finish
) -> tuple[Box, np.ndarray]:
    """A box of the original array's view `to_canonical`, and the values in it that `finish` makes of float32."""
    if original.is_oblique:
        volume = volume_grid.image(probability.astype(np.float32))
        turned = sitk.Resample(
            volume,
            original.size,
            sitk.Transform(),
            sitk.sitkLinear,
            original.origin_mm,
            original.spacing_mm,
            original.direction,
        )
        values = finish(sitk.GetArrayFromImage(turned)).astype(dtype, copy=False)
        return (slice(None),) * 3, to_canonical(values, original)
    matrices = interpolation_matrices(volume_grid, original.canonical(), linear, antialias=False)
    return _interpolated_in_box(probability, matrices, dtype, finish)


def _without_extremes(image: sitk.Image, low: float, high: float) -> sitk.Image:
    """The image with air for values below `low`, and at most `high`; the image itself if none lies beyond."""
    voxels = sitk.GetArrayViewFromImage(image)
    if voxels.min() >= low and voxels.max() <= high:
        return image
    kept = voxels.copy()
    kept[voxels < low] = AIR_HU
    kept[voxels > high] = math.floor(high)
    return Geometry.from_image(image).image(kept)


def upright_image(image: sitk.Image, outside: float) -> tuple[np.ndarray, Geometry]:
    """Array D H W in the canonical frame, and its grid."""
    grid = Geometry.from_image(image)
    upright = grid.canonical()
    if not grid.is_oblique:
        return to_canonical(sitk.GetArrayViewFromImage(image), grid), upright
    turned = sitk.Resample(
        image,
        upright.size,
        sitk.Transform(),
        sitk.sitkLinear,
        upright.origin_mm,
        upright.spacing_mm,
        upright.direction,
        outside,
    )
    return sitk.GetArrayFromImage(turned), upright


def _interpolated_in_box(array: np.ndarray, matrices: Matrices, dtype: type, finish: Finish) -> tuple[Box, np.ndarray]:
    """`array`, interpolated and finished, in the box of target voxels that see anything but zero."""
    seen, inner = [], []
    for axis, matrix in enumerate(matrices):
        occupied = array.any(axis=tuple(other for other in range(3) if other != axis))
        columns = _extent(occupied)
        rows = _extent(matrix[:, columns].any(axis=1))
        seen.append(rows)
        inner.append(columns)
    cut = tuple(matrix[rows, columns] for matrix, rows, columns in zip(matrices, seen, inner, strict=True))
    box = (seen[0], seen[1], seen[2])
    if not all(matrix.size for matrix in cut):
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), dtype)
    return box, interpolated(array[tuple(inner)], cut, dtype, finish)


def _extent(occupied: np.ndarray) -> slice:
    """From the first to the last True; empty if there is none."""
    places = np.flatnonzero(occupied)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)
