"""Slices of scored cases with the contours of truth and predictions; cases are chosen by score, not by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from .results import Results, method_label, roi_label
from .scans import Layer, Orientation, Plane, Scan, box_mm, largest_slice
from .style import TRUTH_COLOUR, method_colours
from .windows import Window, window_of

_MARGIN_MM = 25.0
_LEAST_SIDE_MM = 110.0
_ORIENTATIONS: tuple[Orientation, ...] = ("axial", "coronal")
_SLICE_INCHES = 2.15
_SCALE_BARS_MM = (100, 50, 20, 10, 5)
_LARGEST_SCALE_BAR = 0.4
"""Longest scale bar, as a share of the slice's width."""


@dataclass(frozen=True)
class Choice:
    """A case chosen for a ROI, and why: `rank` is "median" or "worst"; `dice` (0 … 1) of each method's shown run."""

    rank: str
    dataset: str
    case: str
    dice: dict[str, float]


def choose_cases(results: Results, roi: str, runs: Mapping[str, str]) -> list[Choice]:
    """The median and the worst case of a ROI by Dice, averaged over methods and their trainings.

    Only cases in which the ROI is present. `runs` has, for each method, the run whose prediction is shown.
    """
    present = results.scores[(results.scores["roi"] == roi) & (results.scores["voxels_truth"] > 0)]
    table = present.pivot_table(index=["dataset", "case"], columns="method", values="dice").dropna()
    if table.empty:
        return []
    order = table.loc[table.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    places = {"median": len(order) // 2, "worst": len(order) - 1}
    chosen = []
    for rank, place in places.items():
        if rank == "worst" and places["median"] == place:
            continue
        dataset, case = order.index[place]
        chosen.append(Choice(rank, dataset, case, results.dice_of_runs(runs, dataset, case).loc[roi].to_dict()))
    return chosen


def roi_panel(
    roi: str, choices: Sequence[Choice], scans: Mapping[tuple[str, str], Scan], runs: Mapping[str, str]
) -> Figure:
    """Axial and coronal slices of the chosen cases: a row per case, for each method its contour beside the truth's.

    `runs` has, for each method, the run whose prediction is shown.
    """
    methods = list(runs)
    colours = method_colours(methods)
    # Up to three methods stand side by side in both directions; more need a row for each direction.
    wide = len(methods) <= 3
    columns = len(methods) * (2 if wide else 1)
    lines = len(choices) * (1 if wide else 2)
    figure = Figure(figsize=(max(_SLICE_INCHES * columns, 5) + 0.4, (_SLICE_INCHES + 0.22) * lines + 0.35))
    grid = figure.subplots(lines, columns, squeeze=False)
    for place, choice in enumerate(choices):
        scan = scans[choice.dataset, choice.case]
        index = scan.rois.index(roi)
        predictions = {method: scan.prediction(run) for method, run in runs.items()}
        window = window_of(roi, scan.volume.pictured_hu)
        for turn, orientation in enumerate(_ORIENTATIONS):
            row = grid[place] if wide else grid[2 * place + turn]
            cells = row[turn * len(methods) :] if wide else row
            for cell, method in zip(cells, methods, strict=False):
                _draw(cell, scan, index, orientation, predictions[method], colours[method], window)
                cell.set_title(
                    f"{method_label(method)}  {100 * choice.dice[method]:.1f} %",
                    fontsize=9,
                    color=colours[method],
                    fontweight="bold",
                )
            said = f"{roi_label(roi)}, {choice.rank} case\n{choice.case}, {orientation}\n{window.text}"
            cells[0].set_ylabel(said, fontsize=7.5)
    handles = [Line2D([], [], color="#444444", linewidth=3.4), Line2D([], [], color=colours[methods[0]], linewidth=1.8)]
    handles[0].set(path_effects=[effects.Stroke(linewidth=3.4, foreground="#444444"), effects.Normal()])
    handles[0].set(color=TRUTH_COLOUR, linewidth=1.8)
    figure.legend(
        handles,
        ["truth", "prediction, in the method's colour (number: its Dice)"],
        loc="outside lower center",
        ncols=2,
        fontsize=8,
    )
    return figure


def _draw(
    axes: Axes, scan: Scan, roi: int, orientation: Orientation, prediction: Layer, colour: str, window: Window
) -> None:
    truth = scan.truth
    position = largest_slice(truth, roi, orientation)
    show_slice(axes, scan.image_plane(orientation, position), window)
    draw_contour(axes, truth.plane(roi, orientation, position), TRUTH_COLOUR, 2.2)
    draw_contour(axes, prediction.plane(roi, orientation, position), colour, 1.5)
    low, high = shown_box(truth, roi)
    across, along = (0, 1) if orientation == "axial" else (0, 2)
    axes.set_xlim(low[across], high[across])
    axes.set_ylim((high[along], low[along]) if orientation == "axial" else (low[along], high[along]))
    draw_marks(axes)


def draw_marks(axes: Axes, sides: tuple[str, str] = ("R", "L")) -> None:
    """Mark a slice's `sides`, of axial and coronal ones the patient's right and left, and draw a scale bar.

    The limits of `axes` must be set.
    """
    left, right = axes.get_xlim()
    text = {"color": "white", "fontsize": 7, "path_effects": [effects.withStroke(linewidth=1.5, foreground="black")]}
    for place, side, alignment in ((0.02, sides[0], "left"), (0.98, sides[1], "right")):
        axes.text(place, 0.5, side, transform=axes.transAxes, ha=alignment, va="center", **text)
    fitting = [length for length in _SCALE_BARS_MM if length <= _LARGEST_SCALE_BAR * (right - left)]
    length = fitting[0] if fitting else _SCALE_BARS_MM[-1]
    end = right - 0.04 * (right - left)
    # In mm across the slice, and in shares of its height.
    placed = axes.get_xaxis_transform()
    outline = [effects.Stroke(linewidth=3.2, foreground="black"), effects.Normal()]
    bar = [end - length, end], [0.045, 0.045]
    axes.plot(*bar, color="white", linewidth=1.8, solid_capstyle="butt", transform=placed, path_effects=outline)
    axes.text(end - length / 2, 0.065, f"{length / 10:g} cm", transform=placed, ha="center", va="bottom", **text)


def show_slice(axes: Axes, plane: Plane, window: Window) -> None:
    """Draw a CT slice in its place in mm."""
    axes.imshow(
        plane.values,
        cmap="gray",
        vmin=window.low,
        vmax=window.high,
        extent=plane.extent_mm,
        interpolation="bicubic",
        origin="upper",
    )
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_contour(axes: Axes, plane: Plane, colour: ColorType, width: float, filled: bool = False) -> None:
    """Draw the outline of a mask in its place in mm."""
    if not plane.values.any():
        return
    # A rim of zeros closes contours that run along the edge of the field of view.
    mask = np.pad(plane.values.astype(float), 1)
    left, right, bottom, top = plane.extent_mm
    height, width_px = plane.values.shape
    x = left + (np.arange(-1, width_px + 1) + 0.5) * (right - left) / width_px
    y = top + (np.arange(-1, height + 1) + 0.5) * (bottom - top) / height
    if filled:
        axes.contourf(x, y, mask, levels=[0.5, 1.5], colors=[colour], alpha=0.3)
    lines = axes.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=width)
    rim = width + (0.8 if filled else 1.2)
    lines.set_path_effects([effects.Stroke(linewidth=rim, foreground="black"), effects.Normal()])


def shown_box(layer: Layer, roi: int) -> tuple[np.ndarray, np.ndarray]:
    """Cube around the ROI, pushed into the image where it can be: all slices of a case have the same scale."""
    low, high = box_mm(layer, roi)
    side = max(float((high - low).max()) + 2 * _MARGIN_MM, _LEAST_SIDE_MM)
    corners = layer.grid.corners_mm()
    first, last = corners.min(axis=0), corners.max(axis=0) - side
    start = (low + high) / 2 - side / 2
    start = np.where(first < last, np.clip(start, first, np.maximum(first, last)), (first + last) / 2)
    return start, start + side
