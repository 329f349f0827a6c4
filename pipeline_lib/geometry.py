"""Where voxels lie in space: the original grid, the canonical frame and the volume's grid.

The canonical frame is LPS with identity direction: x grows to the patient's left, y to posterior, z to superior, and
arrays are (D, H, W) = (z, y, x). A grid whose axes lie along those of the frame, in whatever order and sense, becomes
canonical by transposing and flipping its array; an oblique one has to be interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import SimpleITK as sitk
from pydantic import BaseModel, ConfigDict

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# A grid counts as axis-aligned, or as right-angled, if making it so moves no corner by more than this, in voxels.
ALIGNED_WITHIN_VOXELS = 0.1
# Two grids count as the same if their corners lie within this of each other: what rounding in published headers makes.
SAME_WITHIN_VOXELS = 0.25
# Direction cosines that are off by less are at right angles but for the rounding of a header's numbers.
_ROUNDING = 1e-5

Triple = tuple[int, int, int]
"""Three indices or sides, in array order (z, y, x) unless stated otherwise."""


def triple(values: Sequence[int] | np.ndarray) -> Triple:
    """Three integers of any kind as a tuple of Python's own."""
    first, second, third = (int(value) for value in values)
    return first, second, third


def box_corners(ends: np.ndarray) -> np.ndarray:
    """Corners (8×3) of the box between the rows of `ends` (2×3)."""
    return np.take_along_axis(ends, np.indices((2, 2, 2)).reshape(3, 8).T, axis=0)


class Geometry(BaseModel):
    """Size, spacing (mm), origin (mm, LPS) in (x, y, z) order and direction (3×3, row by row) of a voxel grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, float, float, float, float, float, float, float, float] = IDENTITY

    @classmethod
    def from_image(cls, image: sitk.Image) -> Geometry:
        """The grid of a 3-D image."""
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
        index = box_corners(np.array([(0, 0, 0), np.array(self.size) - 1]))
        return (self.axes @ (index * np.array(self.spacing_mm)).T).T + np.array(self.origin_mm)

    def continuous_index(self, places_mm: np.ndarray) -> np.ndarray:
        """Voxel indices (N×3: x, y, z, with fractions) of positions (N×3, mm); needs right-angled axes."""
        return (places_mm - np.array(self.origin_mm)) @ self.axes / np.array(self.spacing_mm)

    def difference(self, other: Geometry) -> str:
        """How this grid differs from another beyond rounding, in words; empty if they are the same."""
        if self.size != other.size:
            sizes = ["×".join(str(side) for side in grid.size) for grid in (self, other)]
            return f"{sizes[0]} voxels against {sizes[1]}"
        shift = float(np.abs(self.corners_mm() - other.corners_mm()).max())
        if shift > SAME_WITHIN_VOXELS * min(other.spacing_mm):
            return f"corners lie up to {shift:.3g} mm apart"
        return ""

    def right_angled(self) -> tuple[Geometry, float]:
        """The nearest grid whose axes are at right angles, and how far a corner moves to it at most, in voxels.

        Its middle and spacing stay; the axes are those that move the corners least (orthogonal Procrustes). A grid
        that is right-angled but for rounding is returned as it is.
        """
        length = np.array(self.spacing_mm) * self.size
        left, _, right = np.linalg.svd(self.axes * length**2)
        axes = left @ right
        half = np.array(self.spacing_mm) * (np.array(self.size) - 1) / 2
        corners = box_corners(np.array([-half, half]))
        if np.abs(axes - self.axes).max() < _ROUNDING:
            return self, 0.0
        moved = float(np.linalg.norm(corners @ (axes - self.axes).T, axis=1).max()) / min(self.spacing_mm)
        origin = np.array(self.origin_mm) + (self.axes - axes) @ half
        direction = tuple(float(value) for value in axes.ravel())
        return self.model_copy(update={"direction": direction, "origin_mm": tuple(map(float, origin))}), moved

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
    """View of `array` (D H W on `grid`) in the canonical frame's order; an oblique grid's axes count as the nearest."""
    order = [2 - axis for axis in reversed(grid.voxel_axes())]
    return _flipped(array.transpose(order), grid)


def from_canonical(array: np.ndarray, grid: Geometry) -> np.ndarray:
    """View of `array` (D H W in the canonical frame's order) in `grid`'s own order: undoes `to_canonical`."""
    order = [2 - axis for axis in reversed(grid.voxel_axes())]
    return _flipped(array, grid).transpose(np.argsort(order))


def _flipped(array: np.ndarray, grid: Geometry) -> np.ndarray:
    return array[tuple(slice(None, None, sign) for sign in reversed(grid.signs()))]
