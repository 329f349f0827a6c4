"""Dice in % of every ROI and method: the mean with its 95 % interval, and below it each case as a faint point."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .results import Results, method_label, roi_label
from .style import MUTED, method_colours, method_markers

_BAND = 0.8
"""Share of a ROI's row that its methods fill."""

_POINTS_BELOW = 0.34
"""How far below its mean a method's cases lie, as a share of its line: the interval would hide them."""


def dice_figure(results: Results, summary: pd.DataFrame) -> Figure:
    """One row per ROI, one line per method; `summary` is `statistics.summary_table`."""
    methods, rois = results.methods, results.rois
    height = 1.3 + len(rois) * max(0.34, 0.15 * len(methods) + 0.12)
    figure = Figure(figsize=(9, height))
    axes = figure.add_subplot()
    colours, markers = method_colours(methods), method_markers(methods)
    by_case = results.dice_by_case()
    step = _BAND / max(len(methods), 1)
    for place, method in enumerate(methods):
        offset = (place + 0.5) * step - _BAND / 2
        rows = summary[summary["method"] == method].set_index("roi").reindex(rois)
        at = np.arange(len(rois)) + offset
        chosen = by_case[by_case["method"] == method]
        axes.scatter(
            100 * chosen["dice"],
            [rois.index(roi) + offset + _POINTS_BELOW * step for roi in chosen["roi"]],
            s=9,
            color=colours[method],
            alpha=0.4,
            linewidths=0,
        )
        axes.hlines(at, 100 * rows["dice_low"], 100 * rows["dice_high"], color=colours[method], linewidth=2)
        # Below the mean over all cases, which covers it where both are equal.
        axes.scatter(
            100 * rows["dice_mean_present"],
            at,
            s=30,
            marker=markers[method],
            facecolors="white",
            edgecolors=colours[method],
        )
        axes.plot(
            100 * rows["dice_mean"],
            at,
            linestyle="",
            marker=markers[method],
            markersize=6,
            color=colours[method],
            markeredgecolor="white",
            markeredgewidth=0.7,
            label=method_label(method),
        )
    for boundary in range(1, len(rois)):
        axes.axhline(boundary - 0.5, color=MUTED, linewidth=0.4, alpha=0.5)
    axes.set_yticks(range(len(rois)), [f"{roi_label(roi)}  ({_held(results, roi)})" for roi in rois])
    axes.set_ylim(len(rois) - 0.5, -0.5)
    axes.set_xlim(-1, 101)
    axes.set_xlabel(f"Dice in % (in brackets: how many of the {results.case_noun}s contain the ROI)")
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0)
    rows = -(-len(methods) // 5)
    figure.legend(loc="outside upper center", ncols=-(-len(methods) // rows))
    return figure


def _held(results: Results, roi: str) -> str:
    held, known = results.presence(roi)
    return f"{held} of {known}"
