"""A case's voxel grid seen in torso coordinates, and smooth random fields on it.

Anatomy is written once, in millimetres of an adult torso: x to the patient's left of the midline, y to the back, z
up from the middle of the first lumbar vertebra. A case is posed, scaled and deformed by changing where on that torso
each of its voxels lies, so every structure deforms together and organs keep touching each other as they should.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Voxel centres of an axis-aligned LPS image: shape (D, H, W), spacing and origin (x, y, z) in mm."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]

    @cached_property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Positions (x, y, z) in mm along each axis; their lengths are W, H, D."""
        x, y, z = (
            start + step * np.arange(count)
            for start, step, count in zip(self.origin, self.spacing, self.shape[::-1], strict=True)
        )
        return x, y, z


@dataclass(frozen=True)
class Pose:
    """Where the torso lies in the scanner: position = rotation · (scale ∘ torso) + offset, in mm."""

    rotation: NDArray[np.float64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


@dataclass(frozen=True)
class Local:
    """The voxels of a box: its slices in the grid and their torso coordinates (each D H W, mm)."""

    slices: tuple[slice, slice, slice]
    x: Array
    y: Array
    z: Array


class Frame:
    """Torso coordinates of every voxel of a grid.

    Parameters
    ----------
    grid: the image's voxels.
    pose: rigid pose and size.
    displacement: 3 D H W, mm, added to the torso coordinates (x, y, z).
    """

    def __init__(self, grid: Grid, pose: Pose, displacement: Array) -> None:
        self.grid, self.pose = grid, pose
        inverse = pose.rotation.T / pose.scale[:, None]
        x, y, z = grid.axes
        start = inverse @ (np.array([x[0], y[0], z[0]]) - pose.offset)
        coordinates = []
        for row in range(3):
            along_x, along_y, along_z = (inverse[row, axis] * (line - line[0]) for axis, line in enumerate((x, y, z)))
            plane = (along_y[:, None] + along_x[None, :]).astype(np.float32)
            coordinates.append((along_z + start[row]).astype(np.float32)[:, None, None] + plane + displacement[row])
        self.x, self.y, self.z = coordinates
        self._matrix = pose.rotation * pose.scale
        self._reach = np.abs(displacement).reshape(3, -1).max(axis=1).astype(np.float64)

    @property
    def voxel(self) -> float:
        """Typical side of a voxel in torso mm."""
        return float(np.prod(np.array(self.grid.spacing) / self.pose.scale) ** (1 / 3))

    @property
    def everywhere(self) -> Local:
        depth, height, width = self.grid.shape
        return Local((slice(0, depth), slice(0, height), slice(0, width)), self.x, self.y, self.z)

    def around(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> Local:
        """A box of voxels that surely holds every voxel with torso coordinates between `low` and `high` (mm)."""
        first, last = self._corners(low, high)
        slices = (slice(first[2], last[2]), slice(first[1], last[1]), slice(first[0], last[0]))
        return Local(slices, self.x[slices], self.y[slices], self.z[slices])

    def slices_around(
        self, low: NDArray[np.float64], high: NDArray[np.float64], local: Local
    ) -> tuple[slice, slice, slice] | None:
        """The same box as slices inside another one; None where they do not meet."""
        first, last = self._corners(low, high)
        start = np.array([part.start for part in local.slices])
        first = np.maximum(first[::-1] - start, 0)
        last = np.minimum(last[::-1] - start, local.x.shape)
        if (first >= last).any():
            return None
        return tuple(slice(begin, end) for begin, end in zip(first, last, strict=True))

    def _corners(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and past-the-last voxel (x, y, z) of the box in the grid."""
        middle, half = (np.asarray(low) + high) / 2, (np.asarray(high) - low) / 2 + self._reach
        middle = self._matrix @ middle + self.pose.offset
        half = np.abs(self._matrix) @ half
        spacing, origin, size = np.array(self.grid.spacing), np.array(self.grid.origin), self.grid.shape[::-1]
        first = np.clip(np.floor((middle - half - origin) / spacing), 0, size).astype(int)
        last = np.clip(np.ceil((middle + half - origin) / spacing) + 1, first, size).astype(int)
        return first, last


def smooth_field(
    generator: np.random.Generator, grid: Grid, wavelengths: tuple[float, float], modes: int = 48
) -> Array:
    """A smooth random field of standard deviation 1, D H W: a sum of plane waves of the given lengths (mm).

    Plane waves are separable on a grid, so the sum is one matrix product.
    """
    direction = generator.normal(size=(modes, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = np.exp(generator.uniform(*np.log(wavelengths), size=modes))
    wave = 2 * np.pi * direction / length[:, None]
    phase = generator.uniform(0, 2 * np.pi, size=modes)
    x, y, z = grid.axes
    along_x, along_y, along_z = (np.exp(1j * np.outer(line, wave[:, axis])) for axis, line in enumerate((x, y, z)))
    planes = (along_y[:, None, :] * along_x[None, :, :] * np.exp(1j * phase)).reshape(-1, modes)
    left = np.concatenate([along_z.real, along_z.imag], axis=1).astype(np.float32)
    right = np.concatenate([planes.real, -planes.imag], axis=1).astype(np.float32)
    return ((left @ right.T) * np.float32(np.sqrt(2 / modes))).reshape(grid.shape)
