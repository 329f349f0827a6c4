"""False voxels in the report: how much of what a method predicts is not true, and where that lies."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..scoring.false_voxels import NEAR_BORDER_MM
from .results import Results, method_label, roi_label
from .style import MUTED

_PLACES = {
    "in_other": ("in another labelled organ", "#D55E00"),
    "near_border": (f"≤ {NEAR_BORDER_MM:g} mm from its own border", "#56B4E9"),
    "elsewhere": ("elsewhere", "#999999"),
}
"""Columns of the score files `volume_false_NAME_ml`: their titles and colours."""

FALSE_VOXELS_TABLE = "false_voxels.csv"


def false_voxel_table(results: Results) -> pd.DataFrame:
    """A row per method and ROI: false volumes by where they lie, summed over cases, mean over trainings.

    `predicted_ml` is the whole predicted volume, `false_NAME_ml` the parts of it that are false, and `false_NAME` these
    as shares of it, NaN where nothing is predicted.
    """
    columns = {"volume_prediction_ml": "predicted_ml"}
    columns |= {f"volume_false_{name}_ml": f"false_{name}_ml" for name in _PLACES}
    by_run = results.scores.groupby(["method", "seed", "roi"], sort=False)[list(columns)].sum()
    table = by_run.groupby(["method", "roi"], sort=False).mean().rename(columns=columns)
    order = pd.MultiIndex.from_product([results.methods, results.rois], names=["method", "roi"])
    table = table.reindex(order[order.isin(table.index)])
    for name in _PLACES:
        table[f"false_{name}"] = table[f"false_{name}_ml"] / table["predicted_ml"].where(table["predicted_ml"] > 0)
    return table.reset_index()


def false_voxels_caption(results: Results) -> str:
    return (
        "The part of what is predicted that is false, by where it lies: in another organ that the case labels; else up "
        f"to {NEAR_BORDER_MM:g} mm from the ROI's own true surface; else elsewhere, where unlabelled organs may lie. "
        f"All {results.case_noun}s together, mean over trainings. The volumes are in "
        f"{results.file_name(FALSE_VOXELS_TABLE)}."
    )


def false_voxel_figure(table: pd.DataFrame, results: Results) -> Figure:
    """A group of bars per ROI, a stacked bar per method; `table` is `false_voxel_table`'s."""
    rois = [roi for roi in results.rois if (table["roi"] == roi).any()]
    methods = results.methods
    lines = len(methods) + 1
    figure = Figure(figsize=(9, 1.1 + 0.19 * lines * len(rois)))
    axes = figure.add_subplot()
    places, names = [], []
    for group, roi in enumerate(rois):
        rows = table[table["roi"] == roi].set_index("method").reindex(methods)
        at = group * lines + np.arange(len(methods))
        places += list(at)
        names += [method_label(method) for method in methods]
        start = np.zeros(len(methods))
        for name, (title, colour) in _PLACES.items():
            share = 100 * rows[f"false_{name}"].fillna(0).to_numpy()
            axes.barh(at, share, 0.82, left=start, color=colour, label=title if not group else None)
            start += share
        for place, end, predicted in zip(at, start, rows["predicted_ml"], strict=True):
            said = f"{end:.0f} %" if predicted > 0 else "nothing predicted"
            axes.text(end + 0.6, place, said, va="center", fontsize=7.5, color=MUTED)
        # Above its bars, in the line that is free.
        axes.text(0.6, group * lines - 0.95, roi_label(roi), va="center", fontsize=9, fontweight="bold")
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(len(rois) * lines - 1.2, -1.5)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(f"false voxels in % of the predicted volume, all {results.case_noun}s together")
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=len(_PLACES), fontsize=9)
    return figure
