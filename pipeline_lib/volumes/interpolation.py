"""Separable interpolation: along each axis one small matrix, target voxels × source voxels.

Going to a volume the kernel is Keys' cubic convolution (IEEE Trans. ASSP 29, 1981, a = −1/2), which keeps edges and
one-voxel structures better than a linear one; where an axis gets coarser it is stretched by the ratio, so that it
averages what a voxel covers instead of aliasing it. Going back the kernel is linear.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..geometry import Geometry

Kernel = Callable[[np.ndarray], np.ndarray]
Matrices = tuple[np.ndarray, np.ndarray, np.ndarray]
"""One matrix for each of the axes z, y, x."""

_BLOCK = 32
_SLICES = 8


def cubic(distance: np.ndarray) -> np.ndarray:
    """Weight at a distance in voxels; 0 from 2 on."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def linear(distance: np.ndarray) -> np.ndarray:
    """Weight at a distance in voxels; 0 from 1 on."""
    return np.maximum(0, 1 - distance)


def interpolation_matrices(source: Geometry, target: Geometry, kernel: Kernel, antialias: bool) -> Matrices:
    """Matrices (float32) that take an array on `source` to `target`; both grids lie along the axes of the frame.

    Beyond the source's ends its edge voxels are repeated.
    """
    along_x, along_y, along_z = (_axis_matrix(source, target, axis, kernel, antialias) for axis in range(3))
    return along_z, along_y, along_x


def _axis_matrix(source: Geometry, target: Geometry, axis: int, kernel: Kernel, antialias: bool) -> np.ndarray:
    length, spacing = source.size[axis], source.spacing_mm[axis]
    offset = target.origin_mm[axis] - source.origin_mm[axis]
    positions = (offset + np.arange(target.size[axis]) * target.spacing_mm[axis]) / spacing
    stretch = max(1.0, target.spacing_mm[axis] / spacing) if antialias else 1.0
    reach = int(np.ceil(2 * stretch))
    matrix = np.zeros((len(positions), length))
    rows, below = np.arange(len(positions)), np.floor(positions).astype(int)
    for step in range(-reach, reach + 2):
        weight = kernel(np.abs(below + step - positions) / stretch)
        np.add.at(matrix, (rows, np.clip(below + step, 0, length - 1)), weight)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def interpolated(
    array: np.ndarray, matrices: Matrices, dtype: type, finish: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`array` D H W times a matrix along each axis; `finish` turns float32 blocks into values of the result's `dtype`.

    Works through the target a few slices at a time: in float32 there is never more than what these need.
    """
    along_z, along_y, along_x = matrices
    result = np.empty((len(along_z), len(along_y), len(along_x)), dtype)
    bands_y, bands_x = _bands(along_y), _bands(along_x)
    starts = range(0, len(along_z), _SLICES)
    needed = [_support(along_z[start : start + _SLICES]) for start in starts]
    planes = np.empty((max(part.stop - part.start for part in needed), *result.shape[1:]), np.float32)
    block = np.empty((_SLICES, *result.shape[1:]), np.float32)
    held = range(0)
    for start, part in zip(starts, needed, strict=True):
        weights = along_z[start : start + _SLICES, part]
        kept = range(part.start, held.stop)
        if kept:
            planes[: len(kept)] = planes[kept.start - held.start : kept.stop - held.start]
        held = range(part.start, part.stop)
        for z in held[len(kept) :]:
            rows = _product(bands_y, np.ascontiguousarray(array[z], np.float32))
            planes[z - held.start] = _product(bands_x, rows.T).T
        out = block[: len(weights)]
        np.matmul(weights, planes[: len(held)].reshape(len(held), -1), out=out.reshape(len(weights), -1))
        result[start : start + _SLICES] = finish(out)
    return result


def _bands(matrix: np.ndarray) -> list[tuple[slice, slice, np.ndarray]]:
    """Blocks of rows of a banded matrix: (rows, columns that are not all zero, their part of the matrix)."""
    starts = range(0, len(matrix), _BLOCK)
    blocks = [slice(start, min(start + _BLOCK, len(matrix))) for start in starts]
    return [
        (rows, band, np.ascontiguousarray(matrix[rows, band])) for rows in blocks for band in [_support(matrix[rows])]
    ]


def _product(bands: list[tuple[slice, slice, np.ndarray]], values: np.ndarray) -> np.ndarray:
    """Matrix product of a matrix in bands with `values`."""
    result = np.empty((bands[-1][0].stop, values.shape[1]), np.float32)
    for rows, band, part in bands:
        np.matmul(part, values[band], out=result[rows])
    return result


def _support(rows: np.ndarray) -> slice:
    """Columns from the first to the last in which `rows` are not all zero."""
    columns = np.flatnonzero(rows.any(axis=0))
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 1)
