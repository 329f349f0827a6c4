"""From the original grid to the volume's, and back.

On axis-aligned grids (nearly all CT) interpolation is separable: along each axis it is one small matrix, output voxels
× input voxels, and a volume is three matrix products. Where an axis gets coarser, the interpolation kernel is stretched
by the ratio, so that it averages what a voxel covers instead of aliasing it. Oblique grids are first turned upright.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import SimpleITK as sitk

from .bits import bits_dtype
from .geometry import Geometry, from_canonical, to_canonical
from .record import CaseRecord

AIR_HU = -1024
_BLOCK = 32


def image_volume(image: sitk.Image, volume_grid: Geometry, window_hu: tuple[float, float]) -> np.ndarray:
    """The CT (HU) on the volume's grid: int16 D H W, clipped to the window."""
    array, native = _canonical(image, sitk.sitkLinear, AIR_HU)
    low, high = window_hu

    def finish(block: np.ndarray) -> np.ndarray:
        return np.rint(np.clip(block, low, high, out=block), out=block)

    matrices = tuple(_axis_matrix(native, volume_grid, axis, antialias=True) for axis in (2, 1, 0))
    return _resampled(array, matrices, np.dtype(np.int16), finish)


def label_volume(labels: sitk.Image, volume_grid: Geometry) -> np.ndarray:
    """Labels, or bits of several, on the volume's grid (D H W, type kept): those of the nearest voxel."""
    array, native = _canonical(labels, sitk.sitkNearestNeighbor, 0)
    for axis in (2, 1, 0):
        array = array.take(_nearest(native, volume_grid, 2 - axis), axis=axis)
    return array


def masks_on_original_grid(probabilities: Iterable[np.ndarray], record: CaseRecord) -> np.ndarray:
    """ROI bits (unsigned, D H W) on the case's original grid.

    `probabilities` has one array D H W on the volume's grid for each ROI in order: bool, uint8 (0 … 255 for 0 … 1) or
    float in 0 … 1. Each is interpolated linearly and thresholded at 0.5, one ROI at a time.
    """
    original = record.original
    masks = [_mask_on_original_grid(probability, record) for probability in probabilities]
    bits = np.zeros(original.shape, bits_dtype(len(masks)))
    for roi, mask in enumerate(masks):
        bits |= mask.astype(bits.dtype) << bits.dtype.type(roi)
    return bits


def _mask_on_original_grid(probability: np.ndarray, record: CaseRecord) -> np.ndarray:
    original = record.original
    half = 127.5 if probability.dtype == np.uint8 else 0.5
    if original.is_oblique:
        volume = record.grid.image(probability.astype(np.float32))
        turned = sitk.Resample(
            volume, original.image(np.zeros(original.shape, np.uint8)), outputPixelType=sitk.sitkFloat32
        )
        return sitk.GetArrayViewFromImage(turned) >= half
    upright = original.canonical()
    matrices = tuple(_axis_matrix(record.grid, upright, axis, antialias=False) for axis in (2, 1, 0))
    return from_canonical(_resampled(probability, matrices, np.dtype(bool), lambda block: block >= half), original)


def _canonical(image: sitk.Image, interpolator: int, outside: float) -> tuple[np.ndarray, Geometry]:
    """Array D H W in the canonical frame, and its grid."""
    grid = Geometry.of(image)
    upright = grid.canonical()
    if not grid.is_oblique:
        return to_canonical(sitk.GetArrayViewFromImage(image), grid), upright
    turned = sitk.Resample(
        image,
        upright.size,
        sitk.Transform(),
        interpolator,
        upright.origin_mm,
        upright.spacing_mm,
        upright.direction,
        outside,
    )
    return sitk.GetArrayFromImage(turned), upright


def _positions(source: Geometry, target: Geometry, axis: int) -> np.ndarray:
    """Centres of the target's voxels along `axis` (0 is x), as indices into the source."""
    offset = target.origin_mm[axis] - source.origin_mm[axis]
    return (offset + np.arange(target.size[axis]) * target.spacing_mm[axis]) / source.spacing_mm[axis]


def _nearest(source: Geometry, target: Geometry, axis: int) -> np.ndarray:
    return np.clip(np.rint(_positions(source, target, axis)), 0, source.size[axis] - 1).astype(np.intp)


def _axis_matrix(source: Geometry, target: Geometry, axis: int, antialias: bool) -> np.ndarray:
    """Linear interpolation along `axis` (0 is x) as a matrix, target voxels × source voxels, float32.

    The edge voxels go on beyond the source's ends.
    """
    length = source.size[axis]
    width = max(1.0, target.spacing_mm[axis] / source.spacing_mm[axis]) if antialias else 1.0
    positions = _positions(source, target, axis)
    reach = int(np.ceil(width))
    matrix = np.zeros((len(positions), length))
    nearest = np.floor(positions).astype(int)
    rows = np.arange(len(positions))
    for step in range(-reach, reach + 2):
        weight = np.maximum(0, 1 - np.abs(nearest + step - positions) / width)
        np.add.at(matrix, (rows, np.clip(nearest + step, 0, length - 1)), weight)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def _resampled(
    array: np.ndarray,
    matrices: tuple[np.ndarray, ...],
    dtype: np.dtype,
    finish: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """`array` D H W times one matrix along each axis; `finish` turns float32 blocks into the result's values.

    Works through a few slices at a time: in float32 there is never more than what one block of output slices needs.
    """
    along_z, along_y, along_x = matrices
    result = np.empty((len(along_z), len(along_y), len(along_x)), dtype)
    planes: dict[int, np.ndarray] = {}
    for start in range(0, len(along_z), _BLOCK):
        weights = along_z[start : start + _BLOCK]
        needed = _support(weights)
        planes = {
            z: planes[z] if z in planes else _resampled_plane(array[z], along_y, along_x)
            for z in range(needed.start, needed.stop)
        }
        for row, part in enumerate(weights[:, needed], start):
            touched = [(weight, planes[needed.start + z]) for z, weight in enumerate(part) if weight]
            first, *others = (weight * plane for weight, plane in touched)
            result[row] = finish(sum(others, first))
    return result


def _resampled_plane(plane: np.ndarray, along_y: np.ndarray, along_x: np.ndarray) -> np.ndarray:
    rows = _product(along_y, np.ascontiguousarray(plane, np.float32))
    return _product(along_x, rows.T).T


def _product(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`matrix @ values` for a banded matrix."""
    result = np.empty((len(matrix), values.shape[1]), np.float32)
    for start in range(0, len(matrix), _BLOCK):
        rows = matrix[start : start + _BLOCK]
        needed = _support(rows)
        np.matmul(rows[:, needed], values[needed], out=result[start : start + _BLOCK])
    return result


def _support(rows: np.ndarray) -> slice:
    """Columns in which `rows` are not all zero."""
    columns = np.flatnonzero(rows.any(axis=0))
    return slice(int(columns[0]), int(columns[-1]) + 1)
