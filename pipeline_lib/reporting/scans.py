"""Scored cases as people see them: CT, truth and predictions in one frame, as slices in millimetres.

The CT comes from the volume store. Predictions and full truth come from their own, original grids, the labels of real
data sets from the volume; so every array keeps its grid, and slices are overlaid by their positions in mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..geometry import Geometry
from ..label_bits import bits_from_planes, read_roi_bits, roi_mask
from ..volumes.store import Volume, open_volume

Orientation = Literal["axial", "coronal", "sagittal"]
ARRAY_AXIS: dict[Orientation, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
_WORLD_AXES = {0: (0, 1), 1: (0, 2), 2: (1, 2)}
"""The axes (x, y, z: 0, 1, 2) across and along slices, by the array axis that they are taken of."""
TRUTH = "truth"
_SOLID_ABOVE_HU, _LEAST_PART, _MARGIN_MM = -300, 0.1, 8.0
"""What is the patient in a slice: HU, share of the largest part; and the margin around."""


@dataclass(frozen=True)
class Plane:
    """A slice (rows × columns, row 0 on top) and where its borders lie: (left, right, bottom, top) in mm.

    Axial slices show the patient's left on the right and anterior on top; coronal and sagittal ones superior on top.
    """

    values: np.ndarray
    extent_mm: tuple[float, float, float, float]


def nearest_plane(array: np.ndarray, grid: Geometry, orientation: Orientation, position_mm: float) -> Plane:
    """The slice of `array` (D H W on the canonical `grid`) nearest to `position_mm`."""
    axis = ARRAY_AXIS[orientation]
    index = int(np.clip(round(_index_at(grid, axis, position_mm)), 0, array.shape[axis] - 1))
    return Plane(array.take(index, axis)[_rows(axis)], _extent(grid, axis))


@dataclass(frozen=True)
class Layer:
    """ROI bits (D H W) on their grid, whose frame is canonical wherever slices are asked for."""

    bits: np.ndarray
    grid: Geometry

    def on(self, grid: Geometry) -> Layer:
        """The same bits on another grid, by the nearest voxel."""
        moved = sitk.Resample(
            self.grid.image(self.bits),
            grid.size,
            sitk.Transform(),
            sitk.sitkNearestNeighbor,
            grid.origin_mm,
            grid.spacing_mm,
            grid.direction,
        )
        return Layer(sitk.GetArrayFromImage(moved), grid)

    def mask(self, roi: int) -> np.ndarray:
        return roi_mask(self.bits, roi)

    def plane(self, roi: int, orientation: Orientation, position_mm: float) -> Plane:
        """The slice of one ROI's mask nearest to `position_mm`."""
        plane = nearest_plane(self.bits, self.grid, orientation, position_mm)
        return Plane(roi_mask(plane.values, roi), plane.extent_mm)


@dataclass(frozen=True)
class CaseFiles:
    """Files of one scored case: its volume's folder, predictions by run, and its full truth if there is one."""

    dataset: str
    case: str
    volume: Path
    predictions: Mapping[str, Path]
    truth: Path | None


class Scan:
    """One scored case; files are read when they are first asked for."""

    def __init__(self, files: CaseFiles, rois: Sequence[str]) -> None:
        self.files, self.rois = files, tuple(rois)

    @cached_property
    def volume(self) -> Volume:
        return open_volume(self.files.volume)

    @property
    def known_rois(self) -> tuple[str, ...]:
        """ROIs whose truth is known: all with full truth, else those that the data set labels."""
        return self.rois if self.files.truth is not None else self.volume.record.labelled

    @property
    def body_mm(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest corner (x, y, z) in mm of the box around the patient."""
        record = self.volume.record
        spacing, origin = np.array(record.spacing_mm), np.array(record.origin_mm)
        low, high = (np.array(corner[::-1]) for corner in record.body)
        return origin + (low - 0.5) * spacing, origin + (high - 0.5) * spacing

    @cached_property
    def image(self) -> np.ndarray:
        """int16 HU, D H W: what the volume tells apart, `volume.pictured_hu`."""
        return self.volume.read_picture()

    @cached_property
    def truth(self) -> Layer:
        if self.files.truth is not None:
            return _layer(self.files.truth)
        bits = bits_from_planes(self.volume.combinations, len(self.volume.record.targets))
        return Layer(bits[self.volume.read_codes((0, 0, 0), self.volume.shape)], self.volume.record.grid)

    def prediction(self, run: str) -> Layer:
        return _layer(self.files.predictions[run])

    def image_plane(self, orientation: Orientation, position_mm: float) -> Plane:
        """The CT's slice at `position_mm`, interpolated between the two nearest slices."""
        axis, grid = ARRAY_AXIS[orientation], self.volume.record.grid
        index = float(np.clip(_index_at(grid, axis, position_mm), 0, self.volume.shape[axis] - 1))
        below = int(index)
        above = min(below + 1, self.volume.shape[axis] - 1)
        part = index - below
        blend = (1 - part) * self.image.take(below, axis) + part * self.image.take(above, axis)
        return Plane(blend[_rows(axis)], _extent(grid, axis))

    def body_in_slice_mm(self, orientation: Orientation, position_mm: float) -> tuple[float, float, float, float]:
        """The box around the patient in a slice, in mm: first and last across, lowest and highest along.

        It has a small margin. Where nothing in the slice is denser than the lungs it is the whole patient's box.
        """
        axis = ARRAY_AXIS[orientation]
        across, along = _WORLD_AXES[axis]
        low, high = self.body_mm
        plane = self.image_plane(orientation, position_mm)
        left, right, bottom, top = plane.extent_mm
        rows, columns = plane.values.shape
        solid = plane.values > max(_SOLID_ABOVE_HU, self.volume.record.window_hu[0] + 1)
        # Opened, so that it holds neither the table nor noise; both legs, but no ring on a finger.
        parts, _ = ndimage.label(ndimage.binary_opening(solid))
        areas = np.bincount(parts.flat)
        areas[0] = 0
        body = np.argwhere(np.isin(parts, np.flatnonzero(areas > areas.max() * _LEAST_PART)))
        if not len(body):
            return low[across], high[across], low[along], high[along]
        first, last = body.min(axis=0), body.max(axis=0) + 1
        x = np.array([left + place * (right - left) / columns for place in (first[1], last[1])])
        y = np.sort([top + place * (bottom - top) / rows for place in (first[0], last[0])])
        x, y = (np.clip(x, low[across], high[across]), np.clip(y, low[along], high[along]))
        return x[0] - _MARGIN_MM, x[1] + _MARGIN_MM, y[0] - _MARGIN_MM, y[1] + _MARGIN_MM


def largest_slice(layer: Layer, roi: int, orientation: Orientation) -> float:
    """Position (mm) of the slice in which the ROI is largest; the middle where it is absent."""
    axis = ARRAY_AXIS[orientation]
    areas = layer.mask(roi).sum(axis=tuple(other for other in range(3) if other != axis))
    index = int(areas.argmax()) if areas.any() else len(areas) // 2
    return layer.grid.origin_mm[2 - axis] + index * layer.grid.spacing_mm[2 - axis]


def box_mm(layer: Layer, roi: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (x, y, z) in mm of the ROI's bounding box; of the whole grid where it is absent."""
    found = np.argwhere(layer.mask(roi))
    if not len(found):
        found = np.array([(0, 0, 0), np.array(layer.bits.shape) - 1])
    low, high = found.min(axis=0)[::-1], found.max(axis=0)[::-1]
    spacing, origin = np.array(layer.grid.spacing_mm), np.array(layer.grid.origin_mm)
    return origin + (low - 0.5) * spacing, origin + (high + 0.5) * spacing


def _layer(path: Path) -> Layer:
    bits, grid = read_roi_bits(path)
    return Layer(bits, grid).on(grid.canonical())


def _rows(axis: int) -> slice:
    # Rows grow to posterior on axial slices, as on screen; to superior on the others, which screens show upside down.
    return slice(None) if axis == 0 else slice(None, None, -1)


def _index_at(grid: Geometry, axis: int, position_mm: float) -> float:
    return (position_mm - grid.origin_mm[2 - axis]) / grid.spacing_mm[2 - axis]


def _extent(grid: Geometry, axis: int) -> tuple[float, float, float, float]:
    """Borders of a slice across `axis` in mm: outer edges of its outermost voxels."""
    across, along = _WORLD_AXES[axis]

    def ends(world: int) -> tuple[float, float]:
        first = grid.origin_mm[world] - grid.spacing_mm[world] / 2
        return first, first + grid.size[world] * grid.spacing_mm[world]

    left, right = ends(across)
    low, high = ends(along)
    return (left, right, high, low) if axis == 0 else (left, right, low, high)
