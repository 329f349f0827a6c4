"""How the Dice of held-out training cases rose while the networks trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from .results import method_label, roi_label
from .style import method_colours, method_markers

_COLUMNS = 4
_DICE, _MEAN = "validation_dice", "validation_dice_mean"

VALIDATION_CAPTION = (
    "Dice of the student on training cases that were held out, on the grid of the volumes and with few windows, over "
    "the cases that label and contain the ROI: for watching a training, not a result. One line for each training."
)

Histories = Mapping[str, tuple[str, pd.DataFrame]]
"""Run → its method and history."""


def validated(histories: Histories) -> Histories:
    """The trainings for which cases were held out."""
    return {run: entry for run, entry in histories.items() if _MEAN in entry[1]}


def validation_figure(histories: Histories, methods: Sequence[str], rois: Sequence[str]) -> Figure:
    """The student's Dice over the epochs: the mean over the ROIs, then each ROI; a line for each training."""
    tables = list(validated(histories).values())
    columns = {_MEAN: "mean over ROIs"} | {f"{_DICE}/{roi}": roi_label(roi) for roi in rois}
    present = [name for name in columns if any(name in table for _, table in tables)]
    colours, markers = method_colours(methods), method_markers(methods)
    rows = -(-len(present) // _COLUMNS)
    figure = Figure(figsize=(9, 1.9 * rows + 0.7))
    grid = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    drawn: dict[str, object] = {}
    for axes, name in zip(grid, present, strict=False):
        for method, table in tables:
            if name not in table:
                continue
            values = table.dropna(subset=name)
            (drawn[method],) = axes.plot(
                values["epoch"],
                values[name],
                color=colours[method],
                marker=markers[method],
                markersize=3,
                linewidth=1.2,
            )
        axes.set_title(columns[name], fontsize=9)
        axes.set_ylim(0, 1)
        axes.grid(linewidth=0.4, alpha=0.6)
    for axes in grid[len(present) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(present) - _COLUMNS) : len(present)]:
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
    figure.legend(
        list(drawn.values()), [method_label(method) for method in drawn], loc="outside upper center", ncols=len(drawn)
    )
    return figure
