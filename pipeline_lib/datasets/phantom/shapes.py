"""Implicit shapes: approximate signed distances in mm (negative inside) over a box of voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .frame import Array, Frame, Local

Branch = tuple[NDArray[np.float64], NDArray[np.float64]]
"""A tube's centre line (N 3, mm) and its radii (N, mm)."""


def ellipsoid(
    local: Local,
    centre: ArrayLike,
    radii: ArrayLike,
    rotation: NDArray[np.float64] | None = None,
    power: float = 2.0,
) -> Array:
    """Distance to a superellipsoid, measured along the ray from its centre. `rotation` holds its axes as columns."""
    centre, radii = np.asarray(centre, np.float32), np.asarray(radii, np.float32)
    x, y, z = local.x - centre[0], local.y - centre[1], local.z - centre[2]
    length = np.sqrt(x * x + y * y + z * z)
    if rotation is not None:
        x, y, z = (
            np.float32(column[0]) * x + np.float32(column[1]) * y + np.float32(column[2]) * z for column in rotation.T
        )
    x, y, z = np.abs(x / radii[0]), np.abs(y / radii[1]), np.abs(z / radii[2])
    if power == 2.0:
        norm = np.sqrt(x * x + y * y + z * z)
    else:
        norm = (x**power + y**power + z**power) ** np.float32(1 / power)
    # At the centre itself the ray has no direction; the smallest radius stands in there.
    norm = np.maximum(norm, np.float32(1e-3))
    return np.maximum(length, radii.min() * np.float32(1e-3)) * (1 - 1 / norm)


def tube(frame: Frame, points: NDArray[np.float64], radii: NDArray[np.float64], margin: float) -> tuple[Local, Array]:
    """Distance to a tube along a polyline (points N 3, radii N), cut off at `margin` mm outside of it."""
    branches = [(points, radii)]
    local = around_tubes(frame, branches, margin)
    return local, tubes(frame, local, branches, margin)


def around_tubes(frame: Frame, branches: Sequence[Branch], margin: float) -> Local:
    """The box of several tubes."""
    lows = [(points - radii[:, None] - margin).min(axis=0) for points, radii in branches]
    highs = [(points + radii[:, None] + margin).max(axis=0) for points, radii in branches]
    return frame.around(np.min(lows, axis=0), np.max(highs, axis=0))


def tubes(frame: Frame, local: Local, branches: Sequence[Branch], margin: float) -> Array:
    """Distance to the union of several tubes over the box, cut off at `margin` mm outside of them."""
    distance = np.full(local.x.shape, margin, np.float32)
    for points, radii in branches:
        for index in range(len(points) - 1):
            _add_cone(frame, local, distance, points[index : index + 2], radii[index : index + 2], margin)
    return distance


def _add_cone(
    frame: Frame,
    local: Local,
    distance: Array,
    ends: NDArray[np.float64],
    radii: NDArray[np.float64],
    margin: float,
) -> None:
    reach = radii[:, None] + margin
    box = frame.slices_around((ends - reach).min(axis=0), (ends + reach).max(axis=0), local)
    if box is None:
        return
    start, step = ends[0].astype(np.float32), (ends[1] - ends[0]).astype(np.float32)
    x, y, z = local.x[box] - start[0], local.y[box] - start[1], local.z[box] - start[2]
    along = (x * step[0] + y * step[1] + z * step[2]) / np.float32(max(float(step @ step), 1e-6))
    np.clip(along, 0, 1, out=along)
    x -= along * step[0]
    y -= along * step[1]
    z -= along * step[2]
    apart = np.sqrt(x * x + y * y + z * z)
    apart -= np.float32(radii[0]) + along * np.float32(radii[1] - radii[0])
    view = distance[box]
    np.minimum(view, apart, out=view)


def curve(points: ArrayLike, radii: ArrayLike, step: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A Catmull-Rom curve through the points (N 3) with its radii, as a polyline with pieces of about `step` mm."""
    knots = np.column_stack([np.asarray(points, np.float64), np.asarray(radii, np.float64)])
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    pieces = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        count = max(1, int(np.ceil(np.linalg.norm((end - start)[:3]) / step)))
        t = np.arange(count)[:, None] / count
        pieces.append(
            start
            + t * (end - before) / 2
            + t**2 * (before - 2.5 * start + 2 * end - after / 2)
            + t**3 * (1.5 * (start - end) + (after - before) / 2)
        )
    line = np.vstack([*pieces, knots[-1:]])
    return line[:, :3], np.maximum(line[:, 3], 0.5)


def smooth_union(first: Array, second: Array, blend: float) -> Array:
    """Union of two shapes with a fillet of `blend` mm."""
    share = np.clip(0.5 + 0.5 * (second - first) / np.float32(blend), 0, 1)
    return second + (first - second) * share - np.float32(blend) * share * (1 - share)


def smooth_cut(first: Array, second: Array, blend: float) -> Array:
    """Intersection of two shapes with an edge rounded by `blend` mm."""
    return -smooth_union(-first, -second, blend)


def rotation_matrix(degrees: ArrayLike) -> NDArray[np.float64]:
    """Rotation by the given degrees about x, then y, then z (columns are the rotated axes)."""
    a, b, c = np.deg2rad(np.asarray(degrees, np.float64))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
