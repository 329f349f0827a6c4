"""One picture of a segmentation that says at a glance whether it can be used: to be mailed, not to be measured in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.patches as patches
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import atomic_write
from ..geometry import Geometry, to_canonical
from ..reporting.panels import draw_contour, draw_marks, show_slice
from ..reporting.results import roi_label
from ..reporting.scans import ARRAY_AXIS, Layer, Orientation, Plane, nearest_plane
from ..reporting.style import figure_style, roi_colours
from ..reporting.windows import LUNG, SOFT_TISSUE, Window
from ..volumes.preparation import body_box
from ..volumes.resampling import AIR_HU, upright_image
from .ct import Ct
from .label_map import LabelMap
from .statistics import RoiStatistics

_ORIENTATIONS: dict[Orientation, tuple[str, str]] = {
    "axial": ("R", "L"),
    "coronal": ("R", "L"),
    "sagittal": ("A", "P"),
}
_LOOKED_THROUGH = 160
"""Sides of the coarse label map in which the slices are chosen."""
_ROWS_OF_LEGEND = 26
_BACKGROUND, _TEXT, _MUTED = "#101418", "white", "#9aa4ad"
_HEIGHT_INCHES, _LEGEND_INCHES = 4.6, 2.3
_LONGEST_MM = 1000.0
_DPI = 130
Colour = tuple[int, int, int]


def write_preview(path: Path, ct: Ct, labels: LabelMap, rows: Sequence[RoiStatistics], footer: str) -> None:
    """Write a PNG: an axial, a coronal and a sagittal slice with all ROIs, and each one's volume; `footer` below."""
    with figure_style():
        figure = preview(ct, labels, rows, footer)
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=_DPI, facecolor=_BACKGROUND, metadata={"Software": None})


def preview(ct: Ct, labels: LabelMap, rows: Sequence[RoiStatistics], footer: str) -> Figure:
    """The figure that `write_preview` writes."""
    image, grid = upright_image(ct.image, AIR_HU)
    values = to_canonical(labels.values, ct.grid)
    if ct.grid.is_oblique:
        values = Layer(labels.values, ct.grid).on(grid).bits
    low, high = _shown_box(ct, grid)
    found = [row for row in rows if row.parts]
    columns = max(-(-len(found) // _ROWS_OF_LEGEND), 1)
    # All slices have one scale, as far as very long scans leave room for it.
    sides = np.minimum(high - low, _LONGEST_MM)
    scale = _HEIGHT_INCHES / max(sides[1:])
    across, behind = scale * sides[0], scale * sides[1]
    legend = columns * _LEGEND_INCHES
    places: list[Any]
    if 2 * sides[2] < sides[1]:
        widths, places = [across, across, legend], [["axial", "coronal", "legend"], ["axial", "sagittal", "legend"]]
    else:
        widths, places = [across, across, behind, legend], [["axial", "coronal", "sagittal", "legend"]]
    figure = Figure(figsize=(sum(widths), _HEIGHT_INCHES + 0.9))
    panels = figure.subplot_mosaic(places, width_ratios=widths)
    colours = dict(zip([row.roi for row in found], roi_colours([row.roi for row in found]), strict=True))
    window = _window(labels.rois)
    for orientation, marks in _ORIENTATIONS.items():
        axes = panels[orientation]
        position = _telling_slice(values, grid, orientation)
        show_slice(axes, nearest_plane(image, grid, orientation, position), window)
        plane = nearest_plane(values, grid, orientation, position)
        for value in np.unique(plane.values[plane.values > 0]):
            mask = Plane(plane.values == value, plane.extent_mm)
            draw_contour(axes, mask, _share(colours[labels.rois[value - 1]]), 0.9, filled=True)
        column, line = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[orientation]
        axes.set_xlim(low[column], high[column])
        axes.set_ylim((high[line], low[line]) if orientation == "axial" else (low[line], high[line]))
        axes.set_title(orientation, color=_MUTED, fontsize=9, fontweight="normal")
        draw_marks(axes, marks)
    _draw_legend(panels["legend"], found, len(rows) - len(found), colours, columns)
    figure.suptitle(ct.name, color=_TEXT, fontsize=13, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(
        f"{footer} {window.text[0].upper()}{window.text[1:]}.", color=_MUTED, fontsize=7.5, x=0.01, ha="left"
    )
    return figure


def _draw_legend(
    axes: Axes, found: Sequence[RoiStatistics], absent: int, colours: Mapping[str, Colour], columns: int
) -> None:
    """Each ROI that was found with its volume, and signs where the image cuts it off and where the model is unsure."""
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(_ROWS_OF_LEGEND + 2.5, -0.5)
    for place, row in enumerate(found):
        column, line = divmod(place, _ROWS_OF_LEGEND)
        text: dict[str, Any] = {"color": _TEXT, "fontsize": 8, "va": "center"}
        axes.add_patch(patches.Rectangle((column + 0.02, line - 0.32), 0.06, 0.64, color=_share(colours[row.roi])))
        axes.text(column + 0.11, line, roi_label(row.roi), ha="left", **text)
        axes.text(column + 0.93, line, _volume(row.volume_ml), ha="right", **text)
        marks = "*" * bool(row.touches_border) + "?" * bool(row.look_at)
        if marks:
            axes.text(column + 0.95, line, marks, ha="left", **text)
    notes = ["* ends at the image's border"] if any(row.touches_border for row in found) else []
    notes += ["? less certain than most: look at it"] if any(row.look_at for row in found) else []
    notes += [f"{absent} more ROI{'s' if absent > 1 else ''} not found"] if absent else []
    for line, note in enumerate(notes, start=min(len(found), _ROWS_OF_LEGEND)):
        axes.text(0.02, line + 0.3, note, ha="left", va="center", color=_MUTED, fontsize=7)


def _share(colour: Colour) -> tuple[float, float, float]:
    """0 … 255 → 0 … 1."""
    red, green, blue = (part / 255 for part in colour)
    return red, green, blue


def _volume(millilitres: float) -> str:
    return f"{millilitres:,.0f} ml" if millilitres >= 10 else f"{millilitres:.2g} ml"


def _telling_slice(values: np.ndarray, grid: Geometry, orientation: Orientation) -> float:
    """Position (mm) of the slice that shows the most of all ROIs, each counted by its share of its own largest area."""
    axis = ARRAY_AXIS[orientation]
    coarse = values[tuple(slice(None, None, -(-side // _LOOKED_THROUGH)) for side in values.shape)]
    slices = np.moveaxis(coarse, axis, 0)
    areas = np.array([np.bincount(plane.ravel(), minlength=int(coarse.max()) + 1)[1:] for plane in slices], float)
    largest = areas.max(axis=0) if areas.size else np.zeros(0)
    shown = (areas[:, largest > 0] / largest[largest > 0]).sum(axis=1)
    index = int(shown.argmax()) if shown.any() else len(slices) // 2
    return grid.origin_mm[2 - axis] + index * -(-values.shape[axis] // _LOOKED_THROUGH) * grid.spacing_mm[2 - axis]


def _shown_box(ct: Ct, grid: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (x, y, z) in mm of the box around the patient."""
    spacing, origin = np.array(grid.spacing_mm), np.array(grid.origin_mm)
    low, high = (np.array(corner[::-1]) for corner in body_box(ct.image, grid))
    return origin + (low - 0.5) * spacing, origin + (high - 0.5) * spacing


def _window(rois: Sequence[str]) -> Window:
    lungs = sum("lung" in roi.lower() for roi in rois)
    return LUNG if lungs > len(rois) / 2 else SOFT_TISSUE
