"""What stage check_pseudo_labels found: how much of what the teachers taught was true, over a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .pseudo_label_rates import COUNTS, with_rates
from .results import method_label, roi_label
from .style import method_colours, method_markers

_INSIDE = "inside_"
_KEYS = ("method", "roi", "snapshot")
_TITLES = {
    "precision": "precision",
    "recall": "recall",
    "in_rivals": "in another organ",
    "ruled_out": "in crops taken\nto lack the ROI",
}

PSEUDO_LABELS_CAPTION = (
    "What the teacher tells the student of ROIs that a training crop does not label, after each share of the training, "
    "compared with the phantoms' full truth. Precision: share of the voxels taught as the ROI that are in it. Recall: "
    "share of the ROI's voxels that are taught. In another organ: share of the voxels taught as the ROI that belong to "
    "an organ that excludes it. Last column, if any crop is taken to lack the ROI (negative latent): share of its "
    "voxels that lie in such crops. Sums over crops, data sets and trainings; pseudo_labels.csv has them for each "
    "decision, with the ROIs in which false voxels lie."
)


def read_pseudo_labels(files: Sequence[Path], methods: Mapping[str, str]) -> pd.DataFrame | None:
    """results/pseudo_labels/RUN.csv of every run as sums over trainings and data sets; None without any.

    A row per method, ROI, snapshot and decision. `methods` has the method of each run.
    """
    if not files:
        return None
    rows = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    rows["method"] = rows["run"].map(methods)
    inside = [name for name in rows if name.startswith(_INSIDE)]
    sums = rows.groupby([*_KEYS, "decision"], sort=False, as_index=False)[[*COUNTS, *inside]].sum()
    return with_rates(sums)


def over_decisions(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method, ROI and snapshot: what is taught, whatever was decided about existence.

    `ruled_out` is the share of the ROI's voxels that lie in crops decided to lack it; NaN where nothing is so decided.
    """
    sums = table.groupby(list(_KEYS), sort=False)[list(COUNTS)].sum()
    negative = table[table["decision"] == "negative"].set_index(list(_KEYS))["voxels_true"]
    sums["ruled_out"] = negative.reindex(sums.index) / sums["voxels_true"]
    return with_rates(sums.reset_index())


def pseudo_label_figure(table: pd.DataFrame, methods: Sequence[str], rois: Sequence[str]) -> Figure:
    """A row per ROI, a column per measure, a line per method over the course of the training."""
    pooled = over_decisions(table)
    present, measures = _present(pooled, rois), [name for name in _TITLES if pooled[name].notna().any()]
    colours, markers = method_colours(methods), method_markers(methods)
    figure = Figure(figsize=(2 + 2.1 * len(measures), 1.2 + 0.85 * len(present)))
    grid = figure.subplots(len(present), len(measures), squeeze=False, sharex=True, sharey=True)
    drawn: dict[str, object] = {}
    for line, roi in zip(grid, present, strict=True):
        of_roi = pooled[pooled["roi"] == roi]
        for axes, measure in zip(line, measures, strict=True):
            for method in methods:
                values = of_roi[of_roi["method"] == method].sort_values("snapshot")
                if values[measure].isna().all():
                    continue
                (drawn[method],) = axes.plot(
                    *(values["snapshot"], values[measure]),
                    color=colours[method],
                    marker=markers[method],
                    markersize=3.5,
                    linewidth=1.2,
                    clip_on=False,
                )
            axes.grid(linewidth=0.4, alpha=0.6)
        line[0].set_ylabel(roi_label(roi).replace(" ", "\n", 1), rotation=0, ha="right", va="center")
    for axes, measure in zip(grid[0], measures, strict=True):
        axes.set_title(_TITLES[measure], fontsize=9.5)
    grid[0][0].set(xlim=(0, 1), ylim=(0, 1), yticks=(0, 0.5, 1))
    grid[0][0].xaxis.set_major_formatter(PercentFormatter(1, symbol=None))
    grid[0][0].yaxis.set_major_formatter(PercentFormatter(1))
    figure.supxlabel("share of the training (%)", fontsize=10)
    figure.legend(
        list(drawn.values()), [method_label(method) for method in drawn], loc="outside upper center", ncols=len(drawn)
    )
    return figure


def _present(table: pd.DataFrame, rois: Sequence[str]) -> list[str]:
    """The ROIs of which the teacher says something, or which are there."""
    something = table[table["voxels_predicted"] + table["voxels_true"] > 0]
    return [roi for roi in rois if (something["roi"] == roi).any()]
