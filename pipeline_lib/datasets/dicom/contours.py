"""An RTSTRUCT's contours as masks on the grid of the CT series that they were drawn on.

A voxel belongs to a ROI if its centre lies within an odd number of the ROI's contours in its slice (even-odd rule), or
on one. So a hole may be a contour of its own or joined to the outer one by a channel (keyhole), and a ROI may have
several parts in a slice. benchmarks/contours.py compares this with what libraries make of the same contours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ...errors import UserError
from ...geometry import SAME_WITHIN_VOXELS, Geometry

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_SNAP_WITHIN, _NOISE = 1e-3, 1e-6
"""In voxels: a vertex so near to a voxel's centre is meant to be there; what is finer is floating-point noise."""
_LEAST_CROSSING, _MOST_CROSSING = 0.1, 0.9
"""Of two contours in a slice, the share of the smaller that lies in the larger, if neither nested nor apart."""
_REDRAW = "correct it in the planning system, or list the case under `skip:`"


@dataclass(frozen=True)
class StructureSet:
    """The ROIs of an RTSTRUCT, each drawn on the series' grid when asked for."""

    path: Path
    dicom: Dataset
    grid: Geometry

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the ROIs that have a closed contour, as written. A ROI without one is not drawn, so unknown."""
        return tuple(dict.fromkeys(name for name, _ in self._drawn))

    def mask(self, name: str) -> np.ndarray:
        """bool D H W of a ROI.

        Raises UserError if two ROIs have this name, or if its contours do not lie in the planes of slices, cross each
        other, or leave out most slices.
        """
        found = [contours for drawn, contours in self._drawn if drawn == name]
        if len(found) != 1:
            raise UserError(str(self.path), f"has {len(found)} ROIs named {name!r}", "rename all but one")
        slices = self._by_slice(name, found[0])
        self._check_slices(name, sorted(slices))
        mask = np.zeros(self.grid.shape, bool)
        for number, contours in slices.items():
            self._check_crossing(name, number, contours)
            mask[number] = filled(contours, self.grid.shape[1:])
        return mask

    @cached_property
    def _drawn(self) -> list[tuple[str, list[Dataset]]]:
        """(name, closed contours) of each ROI that has one."""
        contours: dict[int, list[Dataset]] = {}
        for item in self.dicom.get("ROIContourSequence") or ():
            areas = [contour for contour in item.get("ContourSequence") or () if _is_area(contour)]
            contours.setdefault(item.get("ReferencedROINumber"), []).extend(areas)
        rois = self.dicom.get("StructureSetROISequence") or ()
        named = [(str(roi.get("ROIName", "")), contours.get(roi.get("ROINumber"), [])) for roi in rois]
        return [(name, drawn) for name, drawn in named if drawn]

    def _by_slice(self, name: str, items: Sequence[Dataset]) -> dict[int, list[np.ndarray]]:
        """Slice → contours (N×2: column and row of a vertex, in voxels). The same contour twice counts once."""
        slices: dict[int, list[np.ndarray]] = {}
        for item in items:
            try:
                points = np.array(item.ContourData, np.float64).reshape(-1, 3)
                if not np.isfinite(points).all():
                    raise ValueError("not finite")
            except (ValueError, TypeError) as error:
                wrong = f"has a contour of {name!r} that is not a list of points"
                raise UserError(str(self.path), wrong, _REDRAW) from error
            index = self.grid.continuous_index(points)
            number = int(np.rint(index[:, 2].mean()))
            if np.abs(index[:, 2] - number).max() > SAME_WITHIN_VOXELS:
                low, high = index[:, 2].min(), index[:, 2].max()
                where = f"between slices (at {low:.2f})" if high - low < SAME_WITHIN_VOXELS else "across slices"
                wrong = f"has a contour of {name!r} {where} of its series"
                raise UserError(
                    str(self.path), wrong, "draw it on the slices of the CT, or give the CT it was drawn on"
                )
            if not 0 <= number < self.grid.shape[0]:
                wrong = f"has a contour of {name!r} beyond the slices of its series"
                raise UserError(str(self.path), wrong, "give the whole series that it was drawn on")
            centres = index[:, :2].round()
            corners = np.where(np.abs(index[:, :2] - centres) < _SNAP_WITHIN, centres, index[:, :2])
            known = slices.setdefault(number, [])
            if not any(np.array_equal(corners, other) for other in known):
                known.append(corners)
        return slices

    def _check_slices(self, name: str, numbers: list[int]) -> None:
        """Planning systems may draw every n-th slice and show the others interpolated; a mask would have gaps."""
        steps = np.diff(numbers)
        if len(steps) > 1 and np.median(steps) > 1:
            wrong = f"draws {name!r} on about one slice in {np.median(steps):.0f} only"
            raise UserError(str(self.path), wrong, "interpolate it in the planning system")

    def _check_crossing(self, name: str, number: int, contours: Sequence[np.ndarray]) -> None:
        masks = [filled([contour], self.grid.shape[1:]) for contour in contours] if len(contours) > 1 else []
        for first, second in combinations(masks, 2):
            smaller = min(first.sum(), second.sum())
            if _LEAST_CROSSING * smaller < (first & second).sum() < _MOST_CROSSING * smaller:
                raise UserError(
                    str(self.path), f"has contours of {name!r} that cross each other in slice {number}", _REDRAW
                )


def _is_area(contour: Dataset) -> bool:
    """Whether a contour is closed and has three points or more; one whose data are damaged is left to `mask`."""
    try:
        return contour.get("ContourGeometricType") in _CLOSED and len(contour.get("ContourData") or ()) > 2 * 3
    except (ValueError, TypeError):
        return True


def filled(contours: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """bool H W: the pixels whose centres lie within an odd number of closed contours, or on an edge.

    Libraries that trace masks draw contours through the centres of a mask's outermost pixels, those around a hole too,
    so a centre on an edge belongs to the mask.

    Parameters
    ----------
    contours: N×2 each, (column, row) of the vertices, in pixels from the centre of the first; closed by themselves.
    """
    height, width = shape
    starts = np.concatenate([*contours, np.empty((0, 2))])
    ends = np.concatenate([*(np.roll(contour, -1, axis=0) for contour in contours), np.empty((0, 2))])
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first, last = np.clip(np.ceil(low), 0, height).astype(int), np.clip(np.floor(high), -1, height - 1).astype(int)
    touched = np.maximum(last - first + 1, 0)  # rows through whose centres an edge runs
    edge = np.repeat(np.arange(len(starts)), touched)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(touched) - touched, touched) + first[edge]
    rise, level = ends[edge, 1] - starts[edge, 1], low[edge] == high[edge]
    share = np.where(level, 0, (row - starts[edge, 1]) / np.where(level, 1, rise))
    column = starts[edge, 0] + share * (ends[edge, 0] - starts[edge, 0])
    columns = np.stack([column, np.where(level, ends[edge, 0], column)])

    crossing = row < high[edge]  # half-open, so that a vertex counts once
    right_of = np.clip(np.ceil(column[crossing]), 0, width).astype(int)
    crossings = _counted(row[crossing], right_of, shape)
    begin = np.clip(np.ceil(columns.min(axis=0) - _NOISE), 0, width).astype(int)
    end = np.clip(np.floor(columns.max(axis=0) + _NOISE) + 1, begin, width).astype(int)
    on_edge = _counted(row, begin, shape) - _counted(row, end, shape)
    return (crossings.cumsum(axis=1) % 2 == 1)[:, :width] | (on_edge.cumsum(axis=1) > 0)[:, :width]


def _counted(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """int H W+1: how often each place occurs."""
    height, width = shape
    return np.bincount(rows * (width + 1) + columns, minlength=height * (width + 1)).reshape(height, width + 1)
