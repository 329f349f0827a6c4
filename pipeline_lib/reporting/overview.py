"""All ROIs of one case of each data set: truth beside predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .panels import draw_contour, draw_marks, show_slice
from .results import Results, method_label, roi_label
from .scans import ARRAY_AXIS, Layer, Orientation, Scan
from .style import method_colours, roi_colours
from .windows import SOFT_TISSUE, Window

_WIDTH_INCHES = 9.6
_WIDEST_PANEL = 2.5
_GAP, _MARGIN = 0.05, 0.06
_NAMES, _HEADING, _LEGEND_LINE = 0.22, 0.22, 0.24
"""Heights in inches: the methods' names, a case's name, a line of the legend."""
_LEAST_HEIGHT, _MOST_HEIGHT = 0.55, 1.3
"""Of a panel, relative to its width."""
_MOST_IN_LINE = 6
_MOST_METHODS_BOTH_WAYS = 2
_LEGEND_COLUMN = 1.55
_NAME_POINTS, _LETTER_WIDTH = 10, 0.7
"""Size of a method's name where it fits, and the width of its bold letters, relative to their size."""


def choose_median_cases(results: Results) -> list[tuple[str, str]]:
    """Of each data set the median case (dataset, case) by Dice, averaged over ROIs and methods."""
    means = results.dice_by_case().groupby(["dataset", "case"], sort=False)["dice"].mean()
    chosen = []
    for dataset, rows in means.groupby(level="dataset", sort=False):
        ordered = rows.sort_values(ascending=False, kind="stable").index
        chosen.append((str(dataset), str(ordered[len(ordered) // 2][1])))
    return chosen


@dataclass(frozen=True)
class _View:
    """A slice of a case: orientation, position in mm, and the box of it that is shown (x0, x1, y0, y1 in mm)."""

    orientation: Orientation
    position_mm: float
    box_mm: tuple[float, float, float, float]

    @property
    def height(self) -> float:
        """Relative to the width."""
        left, right, low, high = self.box_mm
        return (high - low) / (right - left)


def overview_panel(scans: Sequence[Scan], runs: Mapping[str, str]) -> Figure:
    """A row per case: the truth and each method's prediction, axial and, for one or two methods, coronal too.

    More panels than a line takes go on in the next one. All panels of a case show the same part of the body: as much of
    it as there is in the slice. `runs` has, for each method, the run whose prediction is shown.
    """
    rois, methods = scans[0].rois, list(runs)
    both: tuple[Orientation, ...] = ("axial", "coronal")
    shown = both if len(methods) <= _MOST_METHODS_BOTH_WAYS else both[:1]
    count = (1 + len(methods)) * len(shown)
    lines = -(-count // _MOST_IN_LINE)
    columns = -(-count // lines)
    width = min(_WIDEST_PANEL, (_WIDTH_INCHES - 2 * _MARGIN + _GAP) / columns - _GAP)
    total = 2 * _MARGIN + columns * (width + _GAP) - _GAP
    legend_lines = -(-len(rois) // int(total / _LEGEND_COLUMN))
    views = [_views(scan, shown) for scan in scans]
    heights = [width * min(max(_LEAST_HEIGHT, *(view.height for view in each)), _MOST_HEIGHT) for each in views]
    # Where every case fills one line, the methods are named once, at the top.
    once = lines == 1
    tall = 2 * _MARGIN + once * _NAMES + _LEGEND_LINE * legend_lines + _GAP
    tall += sum(_HEADING + lines * ((not once) * _NAMES + height + _GAP) for height in heights)
    figure = Figure(figsize=(total, tall))
    figure.set_layout_engine("none")
    colours = method_colours(methods)
    longest = max(len(method) for method in methods)
    size = min(_NAME_POINTS, width * 72 / (_LETTER_WIDTH * longest))
    top = tall - _MARGIN - once * _NAMES
    for number, (scan, each, height) in enumerate(zip(scans, views, heights, strict=True)):
        said = f"{scan.files.dataset}, case {scan.files.case}; {_window(scan).text}"
        figure.text(_MARGIN / total, (top - 0.5 * _HEADING) / tall, said, va="center", fontsize=8, color="#444444")
        top -= _HEADING
        for place, (view, layer, method, drawn) in enumerate(_panels(scan, each, runs)):
            column = place % columns
            left = _MARGIN + column * (width + _GAP)
            if not column:
                top -= (not once) * _NAMES + height + _GAP
            axes = figure.add_axes((left / total, (top + _GAP) / tall, width / total, height / tall))
            _draw(axes, scan, layer, drawn, view, height / width)
            if not once or not number:
                name, colour = ("truth", "black") if method is None else (method_label(method), colours[method])
                above = tall - _MARGIN if once else top + _GAP + height + _NAMES
                named = {"fontsize": size, "color": colour, "fontweight": "bold", "va": "center"}
                figure.text(left / total, (above - 0.5 * _NAMES) / tall, name, **named)
    handles = [Patch(facecolor=_matplotlib(colour), edgecolor="#333333", linewidth=0.6) for colour in roi_colours(rois)]
    figure.legend(
        handles,
        [roi_label(roi) for roi in rois],
        loc="lower center",
        ncols=-(-len(rois) // legend_lines),
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.4,
        borderaxespad=0.3,
    )
    return figure


def _window(scan: Scan) -> Window:
    return SOFT_TISSUE.within(scan.volume.record.window_hu)


def _views(scan: Scan, orientations: Sequence[Orientation]) -> list[_View]:
    known = [scan.rois.index(roi) for roi in scan.known_rois]
    views = []
    for orientation in orientations:
        position = busiest_slice(scan.truth, known, orientation)
        views.append(_View(orientation, position, scan.body_in_slice_mm(orientation, position)))
    return views


def _panels(
    scan: Scan, views: Sequence[_View], runs: Mapping[str, str]
) -> Iterator[tuple[_View, Layer, str | None, Sequence[int]]]:
    """What each panel of a case shows in turn: a view, a layer, whose it is (None: the truth), the ROIs drawn of it."""
    known = [scan.rois.index(roi) for roi in scan.known_rois]
    predictions = {method: scan.prediction(run) for method, run in runs.items()}
    for view in views:
        yield view, scan.truth, None, known
        for method, prediction in predictions.items():
            yield view, prediction, method, range(len(scan.rois))


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


def _draw(axes: Axes, scan: Scan, layer: Layer, rois: Sequence[int], view: _View, height: float) -> None:
    show_slice(axes, scan.image_plane(view.orientation, view.position_mm), _window(scan))
    colours = roi_colours(scan.rois)
    for roi in rois:
        plane = layer.plane(roi, view.orientation, view.position_mm)
        draw_contour(axes, plane, _matplotlib(colours[roi]), 1.3, filled=True)
    left, right, low, high = view.box_mm
    # The box, with more around it where the panel has another shape.
    across, along = (left + right) / 2, (low + high) / 2
    half = max(right - left, (high - low) / height) / 2
    axes.set_xlim(across - half, across + half)
    up = height * half
    axes.set_ylim((along + up, along - up) if view.orientation == "axial" else (along - up, along + up))
    draw_marks(axes)


def _matplotlib(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / 255, green / 255, blue / 255
