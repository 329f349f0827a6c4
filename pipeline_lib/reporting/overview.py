"""All ROIs of one case of each data set: truth beside predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .panels import draw_contour, draw_marks, show_slice
from .results import Results, method_label, roi_label
from .scans import ARRAY_AXIS, Layer, Orientation, Scan
from .style import method_colours, roi_colours
from .windows import SOFT_TISSUE

_SLICE_INCHES = 1.75
_HEIGHT_TO_WIDTH = {1: 0.74, 2: 0.84}
"""Of a row, with axial slices only and with coronal ones: a torso is wider than it is deep."""
_MOST_METHODS_BOTH_WAYS = 2


def choose_median_cases(results: Results) -> list[tuple[str, str]]:
    """Of each data set the median case (dataset, case) by Dice, averaged over ROIs and methods."""
    means = results.dice_by_case().groupby(["dataset", "case"], sort=False)["dice"].mean()
    chosen = []
    for dataset, rows in means.groupby(level="dataset", sort=False):
        ordered = rows.sort_values(ascending=False, kind="stable").index
        chosen.append((str(dataset), str(ordered[len(ordered) // 2][1])))
    return chosen


def overview_panel(scans: Sequence[Scan], runs: Mapping[str, str]) -> Figure:
    """A row per case: the truth and each method's prediction, axial and, for one or two methods, coronal too.

    `runs` has, for each method, the run whose prediction is shown.
    """
    methods = list(runs)
    orientations: tuple[Orientation, ...] = ("axial", "coronal")
    shown = orientations if len(methods) <= _MOST_METHODS_BOTH_WAYS else orientations[:1]
    columns = (1 + len(methods)) * len(shown)
    figure = Figure(
        figsize=(_SLICE_INCHES * columns + 0.3, _SLICE_INCHES * _HEIGHT_TO_WIDTH[len(shown)] * len(scans) + 0.9)
    )
    grid = figure.subplots(len(scans), columns, squeeze=False)
    colours = method_colours(methods)
    for row, scan in zip(grid, scans, strict=True):
        layers = [scan.truth, *(scan.prediction(run) for run in runs.values())]
        known = [scan.rois.index(roi) for roi in scan.known_rois]
        for turn, orientation in enumerate(shown):
            position = busiest_slice(scan.truth, known, orientation)
            cells = row[turn * len(layers) : (turn + 1) * len(layers)]
            for cell, layer, rois in zip(cells, layers, [known, *[range(len(scan.rois))] * len(methods)], strict=True):
                _draw(cell, scan, layer, rois, orientation, position)
        window = SOFT_TISSUE.within(scan.volume.record.window_hu)
        row[0].set_ylabel(f"{scan.files.dataset}\n{scan.files.case}\n{window.text}", fontsize=6)
    for turn in range(len(shown)):
        grid[0, turn * (1 + len(methods))].set_title("truth", fontsize=9)
        for place, method in enumerate(methods):
            title = grid[0, turn * (1 + len(methods)) + 1 + place]
            title.set_title(method_label(method), fontsize=9, color=colours[method], fontweight="bold")
    rois = scans[0].rois
    handles = [Patch(facecolor=_matplotlib(colour), edgecolor="#333333", linewidth=0.6) for colour in roi_colours(rois)]
    figure.legend(
        handles,
        [roi_label(roi) for roi in rois],
        loc="outside lower center",
        ncols=min(len(rois), max(3, columns)),
        fontsize=8,
        handlelength=1.2,
        columnspacing=1.2,
    )
    return figure


def busiest_slice(layer: Layer, rois: Sequence[int], orientation: Orientation) -> float:
    """Position (mm) of the slice that cuts the most ROIs, of equal ones that with the most of their voxels.

    Where no ROI is there it is the middle one.
    """
    axis = ARRAY_AXIS[orientation]
    others = tuple(other for other in range(3) if other != axis)
    counts = [layer.mask(roi).sum(axis=others) for roi in rois]
    cut = sum((count > 0).astype(int) for count in counts)
    voxels = sum(count / max(count.sum(), 1) for count in counts)
    index = int((cut + voxels / (len(rois) + 1)).argmax()) if np.any(cut) else layer.bits.shape[axis] // 2
    return layer.grid.origin_mm[2 - axis] + index * layer.grid.spacing_mm[2 - axis]


def _draw(axes: Axes, scan: Scan, layer: Layer, rois: Sequence[int], orientation: Orientation, position: float) -> None:
    show_slice(axes, scan.image_plane(orientation, position), SOFT_TISSUE.within(scan.volume.record.window_hu))
    colours = roi_colours(scan.rois)
    for roi in rois:
        draw_contour(axes, layer.plane(roi, orientation, position), _matplotlib(colours[roi]), 0.8, filled=True)
    low, high = scan.body_mm
    axes.set_xlim(low[0], high[0])
    axes.set_ylim((high[1], low[1]) if orientation == "axial" else (low[2], high[2]))
    draw_marks(axes)


def _matplotlib(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255
