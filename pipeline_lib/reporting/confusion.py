"""Organ confusion in the report: of each true ROI, the share of its voxels that a method predicts as another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .results import Results, Runs, method_label, roi_label
from .style import MUTED

CONFUSION_COLUMNS = ("method", "roi", "true_roi", "share", "cases", "trainings")
_MOST_IN_LINE = 3
_CELL_INCHES = 0.42
_DARK_FROM, _STRONGEST = 0.3, 0.5
"""Share from which a cell's number is white, and from which a colour does not get stronger."""

CONFUSION_TABLE = "confusion.csv"


def read_confusion(files: Sequence[Path], runs: Runs) -> pd.DataFrame:
    """Read results/confusion/RUN.csv of every run as means over cases and trainings.

    A row per method, predicted `roi` and labelled `true_roi`, of which `share` (0 … 1) of the voxels is predicted as
    `roi`: with itself its recall. As in the tables of scores, cases count equally, and so do trainings.
    """
    known = {run: (method, seed) for run, method, seed in runs}
    rows = pd.concat([pd.read_csv(file, dtype={"case": str, "dataset": str}) for file in files], ignore_index=True)
    rows["method"] = rows["run"].map(lambda run: known[run][0])
    rows["seed"] = rows["run"].map(lambda run: known[run][1])
    rows["share"] = rows["voxels_predicted"] / rows["voxels_true"]
    keys = ["method", "roi", "true_roi"]
    # The folds of a seed are one training.
    by_seed = rows.groupby([*keys, "seed"], sort=False, as_index=False).agg(
        share=("share", "mean"), cases=("case", "size")
    )
    means = by_seed.groupby(keys, sort=False, as_index=False).agg(
        share=("share", "mean"), cases=("cases", "max"), trainings=("seed", "nunique")
    )
    return means[list(CONFUSION_COLUMNS)]


def any_pair(confusion: pd.DataFrame) -> bool:
    """Whether any ROI is compared with another one."""
    return bool((confusion["roi"] != confusion["true_roi"]).any())


def confusion_caption(results: Results) -> str:
    return (
        "Of the voxels of each true ROI (row), how many in % are predicted as each ROI (column); mean over the "
        f"{results.case_noun}s that label the true ROI and contain it, and over trainings "
        f"({results.file_name(CONFUSION_TABLE)} has the numbers of both). Blue: the ROI itself, its recall; red: "
        "another one. Voxels that belong to both ROIs, as those of a tumour do to its organ, are left out. A dash: "
        "nothing is left, or an organ cannot be told from what lies in it, since only one is labelled."
    )


def confusion_figure(confusion: pd.DataFrame, results: Results) -> Figure:
    """A matrix per method, a row per true ROI and a column per predicted one, in %; `confusion` is `read_confusion`'s.

    Only ROIs that some case labels have a row.
    """
    rois, methods = results.rois, results.methods
    true_rois = [roi for roi in rois if (confusion["true_roi"] == roi).any()]
    columns = min(len(methods), _MOST_IN_LINE)
    lines = -(-len(methods) // columns)
    width, height = _CELL_INCHES * len(rois), _CELL_INCHES * len(true_rois)
    figure = Figure(figsize=(columns * (width + 0.15) + 1.4, lines * (height + 0.35) + 1.2))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(methods):
            axes.set_visible(False)
            continue
        rows = confusion[confusion["method"] == methods[place]]
        shares = rows.pivot_table(index="true_roi", columns="roi", values="share").reindex(
            true_rois, columns=list(rois)
        )
        _draw(axes, shares)
        axes.set_title(method_label(methods[place]))
        # Nothing stands below the last matrix of a column that is not full.
        axes.tick_params(labelbottom=place + columns >= len(methods))
    figure.supxlabel("predicted as", fontsize=10)
    figure.supylabel("true", fontsize=10)
    return figure


def _draw(axes: Axes, shares: pd.DataFrame) -> None:
    values = shares.to_numpy(float)
    own = np.array([[roi == true for roi in shares.columns] for true in shares.index])
    # Confusion in red, recall in blue: a good method has a dark diagonal and nothing beside it.
    for where, colours, strongest in ((own, "Blues", 1.25), (~own, "Reds", _STRONGEST)):
        axes.imshow(np.where(where, values, np.nan), cmap=colours, vmin=0, vmax=strongest, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            axes.text(column, row, "–", ha="center", va="center", fontsize=8, color=MUTED)
            continue
        dark = value > (0.7 if own[row, column] else _DARK_FROM)
        text, faint = _percent(value), value < 0.005
        colour = "white" if dark else MUTED if faint else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour)
    axes.set_xticks(range(len(shares.columns)), [roi_label(roi) for roi in shares.columns], rotation=45, ha="right")
    axes.get_xaxis().set_tick_params(rotation_mode="anchor")
    axes.set_yticks(range(len(shares.index)), [roi_label(roi) for roi in shares.index])
    axes.tick_params(length=0, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(-0.5, len(shares.columns)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(shares.index)), minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.6)
    axes.tick_params(which="minor", length=0)


def _percent(share: float) -> str:
    """In %, of which tenths are told where there is less than one."""
    return (
        "0"
        if share == 0
        else "<0.1"
        if share < 0.0005
        else f"{100 * share:.1f}"
        if share < 0.00995
        else f"{100 * share:.0f}"
    )
