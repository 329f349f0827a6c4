"""Where voxels lie in space: the original grid, the canonical frame and the volume's grid.

The canonical frame is LPS with identity direction: x grows to the patient's left, y to posterior, z to superior, and
arrays are (D, H, W) = (z, y, x). A grid whose axes lie along those of the frame, in whatever order and sense, becomes
canonical by transposing and flipping its array; an oblique one has to be interpolated.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import SimpleITK as sitk
from pydantic import BaseModel, ConfigDict

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# A grid counts as axis-aligned if turning it upright moves no corner by more than this, in voxels.
ALIGNED_WITHIN_VOXELS = 0.1


class Geometry(BaseModel):
    """Size, spacing (mm), origin (mm, LPS) in (x, y, z) order and direction (3×3, row by row) of a voxel grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, float, float, float, float, float, float, float, float] = IDENTITY

    @classmethod
    def of(cls, image: sitk.Image) -> Geometry:
        return cls(
            size=image.GetSize(),
            spacing_mm=image.GetSpacing(),
            origin_mm=image.GetOrigin(),
            direction=image.GetDirection(),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W): the size in array order."""
        x, y, z = self.size
        return z, y, x

    @property
    def axes(self) -> np.ndarray:
        """Direction matrix 3×3; column c is the direction in which voxel axis c grows."""
        return np.reshape(self.direction, (3, 3))

    def image(self, array: np.ndarray) -> sitk.Image:
        """`array` (D H W) as an image on this grid."""
        if array.shape != self.shape:
            raise ValueError(f"array of shape {array.shape} on a grid of shape {self.shape}")
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image

    def corners_mm(self) -> np.ndarray:
        """Positions (8×3, mm) of the centres of the eight corner voxels."""
        index = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(self.size) - 1)[:, None]
        return (self.axes @ (index * np.array(self.spacing_mm)[:, None])).T + np.array(self.origin_mm)

    def voxel_axes(self) -> tuple[int, int, int]:
        """For each axis (x, y, z) of the canonical frame the voxel axis that lies nearest to it."""
        size = np.abs(self.axes)
        return max(permutations(range(3)), key=lambda order: sum(size[row, order[row]] for row in range(3)))

    def signs(self) -> tuple[int, int, int]:
        """For each axis (x, y, z) of the frame +1 if its voxel axis grows with it, −1 if it grows against it."""
        return tuple(1 if self.axes[row, axis] > 0 else -1 for row, axis in enumerate(self.voxel_axes()))

    @property
    def is_oblique(self) -> bool:
        """Whether turning the voxel axes onto those of the frame would move a corner noticeably."""
        snapped = np.zeros((3, 3))
        for row, (axis, sign) in enumerate(zip(self.voxel_axes(), self.signs(), strict=True)):
            snapped[row, axis] = sign
        length = np.array(self.spacing_mm) * (np.array(self.size) - 1)
        shift = np.abs(self.axes - snapped) @ length
        return bool(shift.max() > ALIGNED_WITHIN_VOXELS * min(self.spacing_mm))

    def canonical(self) -> Geometry:
        """The same grid in the canonical frame; of an oblique grid the upright box around it, with its spacing."""
        order = self.voxel_axes()
        spacing = np.array([self.spacing_mm[axis] for axis in order])
        centres = self.corners_mm()
        if not self.is_oblique:
            size = tuple(self.size[axis] for axis in order)
            middle = centres.mean(axis=0)
            origin = middle - spacing * (np.array(size) - 1) / 2
        else:
            low, high = centres.min(axis=0), centres.max(axis=0)
            size = tuple(int(side) for side in np.ceil((high - low) / spacing - 1e-6) + 1)
            origin = (low + high) / 2 - spacing * (np.array(size) - 1) / 2
        return Geometry(size=size, spacing_mm=tuple(spacing), origin_mm=tuple(origin))

    def at_spacing(self, spacing_mm: tuple[float, float, float]) -> Geometry:
        """The grid of another spacing (x, y, z) that covers the same box, to the nearest voxel, about its middle."""
        extent = np.array(self.size) * self.spacing_mm
        size = np.maximum(np.rint(extent / spacing_mm), 1).astype(int)
        middle = self.corners_mm().mean(axis=0)
        origin = middle - self.axes @ (np.array(spacing_mm) * (size - 1) / 2)
        return Geometry(
            size=tuple(int(side) for side in size),
            spacing_mm=spacing_mm,
            origin_mm=tuple(origin),
            direction=self.direction,
        )


def to_canonical(array: np.ndarray, grid: Geometry) -> np.ndarray:
    """View of `array` (D H W on `grid`, not oblique) in the canonical frame's order."""
    order = [2 - axis for axis in reversed(grid.voxel_axes())]
    return _flipped(array.transpose(order), grid)


def from_canonical(array: np.ndarray, grid: Geometry) -> np.ndarray:
    """View of `array` (D H W in the canonical frame's order) in `grid`'s own order: undoes `to_canonical`."""
    order = [2 - axis for axis in reversed(grid.voxel_axes())]
    return _flipped(array, grid).transpose(np.argsort(order))


def _flipped(array: np.ndarray, grid: Geometry) -> np.ndarray:
    return array[tuple(slice(None, None, sign) for sign in reversed(grid.signs()))]
