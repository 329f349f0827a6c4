"""Where in an organ there is room, and which voxel is which point of the torso."""

from __future__ import annotations

import numpy as np

from .canvas import Mask
from .frame import Local
from .patient import Variation
from .torso import Scene

Voxel = tuple[int, int, int]
"""Place (z, y, x) of a voxel in a box."""


def visible_voxels(scene: Scene, local: Local) -> Mask:
    """Voxels of the box that do not lie at the border of the image."""
    inner = np.zeros(scene.frame.grid.shape, bool)
    inner[2:-2, 2:-2, 2:-2] = True
    return inner[local.slices]


def random_voxels(vary: Variation, room: Mask, count: int) -> list[Voxel]:
    """Random voxels of the box where there is room; none if there is none."""
    free = np.flatnonzero(room)
    if not len(free):
        return []
    chosen = free[vary.generator.integers(len(free), size=count)]
    return [tuple(int(part) for part in np.unravel_index(voxel, room.shape)) for voxel in chosen]


def torso_position(local: Local, place: Voxel) -> np.ndarray:
    """Torso coordinates (x, y, z, mm) of a voxel of the box."""
    return np.array([float(local.x[place]), float(local.y[place]), float(local.z[place])])


def nearest_voxel(scene: Scene, local: Local, point: np.ndarray) -> Voxel | None:
    """The voxel of the box whose torso coordinates are nearest to a point; None where the point is not in the box."""
    box = scene.frame.slices_around(point, point, local)
    if box is None:
        return None
    apart = (local.x[box] - point[0]) ** 2 + (local.y[box] - point[1]) ** 2 + (local.z[box] - point[2]) ** 2
    inside = np.unravel_index(int(np.argmin(apart)), apart.shape)
    return tuple(part.start + int(place) for part, place in zip(box, inside, strict=True))


def in_view(scene: Scene, local: Local, point: np.ndarray) -> bool:
    """Whether a point lies well inside the image."""
    place = nearest_voxel(scene, local, point)
    return place is not None and bool(visible_voxels(scene, local)[place])
