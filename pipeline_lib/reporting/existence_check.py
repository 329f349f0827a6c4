"""What stage check_existence found, as a figure and as rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .results import roi_label
from .style import AMBIGUOUS, MARKERS, PALETTE, POSITIVE

_PAIRS = {
    "the same": ("positive_positive", "negative_negative", "ambiguous_ambiguous"),
    "one of them ambiguous": (
        "positive_ambiguous",
        "ambiguous_positive",
        "negative_ambiguous",
        "ambiguous_negative",
    ),
    "opposite": ("positive_negative", "negative_positive"),
}
FOUND = {"positive": "recall", "negative": "specificity"}
"""Decision → the share of the patches with (without) the ROI that are decided so."""

_PAIR_COLOURS = (POSITIVE, AMBIGUOUS, PALETTE[1])


@dataclass(frozen=True, eq=False)
class ExistenceCheck:
    """The tables agreement.csv and decisions.csv, of the first decision rule in them.

    `methods` are the rule's, and `judged` the decisions about patches whose truth is known: pooled patches of data sets
    that do not label the ROI, or, where no full truth is known, training crops of those that do.
    """

    methods: str
    agreement: pd.DataFrame
    judged: pd.DataFrame

    @property
    def of_pools(self) -> bool:
        return bool((self.judged["patches_of"] == "pool").all())


def read_existence_check(files: Sequence[Path]) -> ExistenceCheck | None:
    """The check from its two files, recognised by their names; None where it was not made."""
    tables = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in files}
    if not tables:
        return None
    methods = tables["agreement"]["methods"].iloc[0]
    agreement, decisions = (tables[name][tables[name]["methods"] == methods] for name in ("agreement", "decisions"))
    pool = decisions[(decisions["patches_of"] == "pool") & (decisions["role"] == "unlabelled")]
    crops = decisions[(decisions["patches_of"] == "training crops") & (decisions["role"] == "labelled")]
    return ExistenceCheck(methods, agreement, crops if pool.empty else pool)


def existence_check_figure(check: ExistenceCheck, rois: Sequence[str]) -> Figure:
    """Per ROI: how often cached and online scores decide alike; recall or specificity, and precision of decisions."""
    figure = Figure(figsize=(11, 1.5 + 0.4 * len(rois)))
    alike, positive, negative = figure.subplots(1, 3, sharey=True)
    _draw_agreement(alike, check.agreement.set_index("roi"), rois)
    _draw_correctness(positive, check, rois, "positive")
    _draw_correctness(negative, check, rois, "negative")
    alike.set_yticks(range(len(rois)), [roi_label(roi) for roi in rois])
    alike.set_ylim(len(rois) - 0.5, -0.5)
    for axes in (alike, positive, negative):
        axes.set_xlim(0, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    pairs, marks = alike.get_legend_handles_labels(), positive.get_legend_handles_labels()
    figure.legend(*pairs, loc="outside upper left", ncols=3, fontsize=8, title="cached and online decision")
    figure.legend(*marks, loc="outside upper right", ncols=4, fontsize=8, title="scores")
    return figure


def existence_check_caption(check: ExistenceCheck) -> str:
    patches = "pooled patches that do not label the ROI, compared with the phantoms' full truth"
    if not check.of_pools:
        patches = "training crops that label the ROI, as if they did not: the full truth is unknown"
    return (
        f"Decisions by the thresholds of {check.methods}. Left: cached scores, of the patch as it is, against online "
        f"scores, of the augmented x_T, on a training's first crops. Middle and right: {patches}. Bar: share of the "
        "patches with (without) the ROI for which that is decided; marker: share of the decisions that are correct; "
        "black line: the same for the ROI whose existence a tumour or vessel takes."
    )


def _draw_agreement(axes: Axes, agreement: pd.DataFrame, rois: Sequence[str]) -> None:
    left = np.zeros(len(rois))
    for (name, columns), colour in zip(_PAIRS.items(), _PAIR_COLOURS, strict=True):
        counts = agreement.loc[list(rois), list(columns)].sum(axis=1).to_numpy()
        shares = counts / agreement.loc[list(rois), "patches"].clip(lower=1).to_numpy()
        axes.barh(range(len(rois)), shares, left=left, color=colour, height=0.66, alpha=0.85, label=name)
        left += shares
    axes.set_xlabel("share of training crops")
    axes.set_title("cached against online scores")


def _draw_correctness(axes: Axes, check: ExistenceCheck, rois: Sequence[str], decision: str) -> None:
    """A lane for each way to score: its bar is the recall (of negatives, the specificity), its marker the precision."""
    ways = list(check.judged.groupby("scores", sort=False))
    found = FOUND[decision]
    height = 0.76 / len(ways)
    for place, (way, rows) in enumerate(ways):
        table = rows.set_index("roi").loc[list(rois)]
        lane = np.arange(len(rois)) + (place - (len(ways) - 1) / 2) * height
        colour, name = PALETTE[place], str(way)
        axes.barh(lane, table[found].fillna(0), height=0.9 * height, color=colour, alpha=0.3)
        axes.scatter(
            table[f"{decision}_precision"], lane, marker=MARKERS[place], s=18, color=colour, zorder=3, label=name
        )
        if place == 0:
            organ = table[f"{decision}_organ_precision"]
            label = f"{name}, for its organ"
            axes.scatter(organ, range(len(rois)), marker="|", s=190, color="black", zorder=2, label=label)
    axes.set_xlabel(f"{found} (bar), precision (marker)")
    axes.set_title(f"{decision} latent")


def existence_check_rows(check: ExistenceCheck) -> list[dict[str, Any]]:
    """Rows of the page's table, each with the name of a ROI, that of a way to score, and numbers for its cells."""
    columns = [
        column
        for decision, found in FOUND.items()
        for column in (found, f"{decision}_precision", f"{decision}_organ_precision")
    ]
    return [
        {
            "roi": roi_label(row["roi"]),
            "way": row["scores"],
            "patches": row["patches"],
            "present": row["present"],
            "shares": [row[column] for column in columns],
        }
        for row in check.judged.to_dict("records")
    ]
