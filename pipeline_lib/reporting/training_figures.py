"""What happened during training: the terms of the loss, and the decisions about the existence of each ROI."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..config.methods import Method, decision_rule
from ..files import read_json_lines
from .results import method_label, roi_label
from .style import AMBIGUOUS, LABELLED, MUTED, NEGATIVE, PALETTE, POSITIVE, method_colours, method_markers

DECISIONS = {
    "labelled": ("labelled", LABELLED, ""),
    "positive": ("positive latent", POSITIVE, "//"),
    "negative": ("negative latent", NEGATIVE, "\\\\"),
    "ambiguous": ("ambiguous", AMBIGUOUS, ""),
}
"""Decision → its name, colour and hatching."""

_SMOOTHED_SHARE = 0.04
_EVOLUTION_POINTS = 60
_MARKERS_PER_LINE = 6


def read_history(path: Path) -> pd.DataFrame:
    """history.jsonl as a table; the entry `latent` of a row's `loss` is the column `loss/latent`."""
    return pd.json_normalize(read_json_lines(path), sep="/")


def loss_terms(methods: Iterable[Method]) -> dict[str, str]:
    """The terms of the losses of all `methods` with their titles, and the total."""
    return {term: title for method in methods for term, title in method.terms.items()} | {"total": "total"}


def loss_figure(
    histories: Mapping[str, tuple[str, pd.DataFrame]], methods: Sequence[str], terms: Mapping[str, str]
) -> Figure:
    """One plot per loss term: every run's values, faint, and their running mean.

    `histories` has, for each run, its method and history; `terms` are the terms to draw, with their titles.
    """
    present = [term for term in terms if any(_has_term(table, term) for _, table in histories.values())]
    colours, markers = method_colours(methods), method_markers(methods)
    rows = -(-len(present) // 2)
    figure = Figure(figsize=(9, 2.5 * rows + 0.5))
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True).ravel()
    drawn: dict[str, object] = {}
    for axes, term in zip(grid, present, strict=False):
        for method, table in histories.values():
            if not _has_term(table, term):
                continue
            values = table.dropna(subset=f"loss/{term}")
            window = max(1, round(_SMOOTHED_SHARE * len(values)))
            smooth = values[f"loss/{term}"].rolling(window, min_periods=1, center=True).mean()
            axes.plot(values["epoch"], values[f"loss/{term}"], color=colours[method], linewidth=0.5, alpha=0.25)
            # Markers, at different places for each method, distinguish lines that coincide or look alike in grey.
            first = list(methods).index(method) / (len(methods) * _MARKERS_PER_LINE)
            (drawn[method],) = axes.plot(
                values["epoch"],
                smooth,
                color=colours[method],
                linewidth=1.8,
                marker=markers[method],
                markersize=5,
                markevery=(round(first * len(values)), max(1, len(values) // _MARKERS_PER_LINE)),
            )
        axes.set_title(terms[term])
        axes.set_ylim(bottom=0)
        axes.grid(linewidth=0.4, alpha=0.6)
    for axes in grid[len(present) :]:
        axes.set_visible(False)
    for axes in grid[max(0, len(present) - 2) : len(present)]:
        axes.set_xlabel("epoch")
        axes.tick_params(labelbottom=True)
    figure.legend(
        list(drawn.values()), [method_label(method) for method in drawn], loc="outside upper center", ncols=len(drawn)
    )
    return figure


def decision_figure(history: pd.DataFrame, rois: Sequence[str], method: str) -> Figure:
    """Decisions about ROIs, over the training (all ROIs together) and per ROI (the whole training)."""
    shares = pd.DataFrame(
        {decision: [_share(history, decision, roi) for roi in rois] for decision in DECISIONS}, index=list(rois)
    )
    figure = Figure(figsize=(9, max(3.4, 1.6 + 0.3 * len(rois))))
    over_time, per_roi = figure.subplots(1, 2, width_ratios=[1, 1.25])
    evolution = _evolution(history, rois)
    areas = over_time.stackplot(
        evolution["epoch"],
        [evolution[decision] for decision in DECISIONS],
        colors=[colour for _, colour, _ in DECISIONS.values()],
        alpha=0.85,
        edgecolor="white",
        linewidth=0,
    )
    for area, (_, _, hatch) in zip(areas, DECISIONS.values(), strict=True):
        area.set_hatch(hatch)
    over_time.set_ylim(0, 1)
    over_time.yaxis.set_major_formatter(PercentFormatter(1))
    over_time.set_xlim(evolution["epoch"].min(), evolution["epoch"].max())
    over_time.set_xlabel("epoch")
    over_time.set_ylabel("share of samples × ROIs")
    over_time.set_title("over the training")
    left = np.zeros(len(rois))
    for decision, (name, colour, hatch) in DECISIONS.items():
        per_roi.barh(
            range(len(rois)),
            shares[decision],
            left=left,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.5,
            alpha=0.85,
            height=0.72,
            label=name,
        )
        left += shares[decision].to_numpy()
    per_roi.set_yticks(range(len(rois)), [roi_label(roi) for roi in rois])
    per_roi.set_ylim(len(rois) - 0.5, -0.5)
    per_roi.set_xlim(0, 1)
    per_roi.xaxis.set_major_formatter(PercentFormatter(1))
    per_roi.set_xlabel("share of samples")
    per_roi.set_title("per ROI")
    per_roi.tick_params(axis="y", length=0)
    figure.legend(*per_roi.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    figure.text(0.01, 0.99, method_label(method), fontweight="bold", fontsize=11, va="top")
    return figure


def common_thresholds(methods: Iterable[Method]) -> list[tuple[float, float]]:
    """The pairs (φ_l, φ_h) of the methods that decide about existence."""
    rules = [decision_rule(method) for method in methods]
    return sorted({(rule.negative_below, rule.positive_above) for rule in rules if rule is not None})


def existence_figure(
    scores: pd.DataFrame,
    rois: Sequence[str],
    labelled: Mapping[tuple[str, str], Collection[str]],
    thresholds: Sequence[tuple[float, float]],
) -> Figure:
    """Distribution of the existence scores of each ROI over pooled patches of cases that do not label it.

    `scores` has the columns dataset, case and score_ROI, `labelled` the ROIs that each (dataset, case) labels;
    `thresholds` are the pairs (φ_l, φ_h) to draw.
    """
    shown = []
    for roi in rois:
        unlabelled = [roi not in labelled[case] for case in zip(scores["dataset"], scores["case"], strict=True)]
        shown.append(scores.loc[unlabelled, f"score_{roi}"].dropna().to_numpy())
    figure = Figure(figsize=(9, 1.2 + 0.36 * len(rois)))
    axes = figure.add_subplot()
    edges = np.linspace(0, 1, 51)
    for place, values in enumerate(shown):
        if len(values):
            heights, _ = np.histogram(values, edges)
            # The root keeps small counts visible beside the large ones at both ends.
            scaled = 0.42 * np.sqrt(heights / heights.max())
            axes.fill_between(
                edges, place + np.append(scaled, 0), place - np.append(scaled, 0), step="post", color=MUTED, linewidth=0
            )
        else:
            axes.text(0.5, place, "labelled everywhere", ha="center", va="center", color=MUTED, fontsize=8)
    axes.set_yticks(range(len(rois)), [roi_label(roi) for roi in rois])
    axes.set_ylim(len(rois) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    for low, high in thresholds:
        for value, name in ((low, "$\\varphi_l$"), (high, "$\\varphi_h$")):
            axes.axvline(value, color=PALETTE[1], linewidth=1.2, linestyle="--")
            axes.annotate(
                f"{name} = {value:g}",
                (value, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=9,
            )
    axes.set_xlabel("existence score of pooled patches in which the ROI is not labelled (width: root of the count)")
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0)
    return figure


def has_decisions(history: pd.DataFrame, rois: Sequence[str]) -> bool:
    return any(f"ambiguous/{roi}" in history for roi in rois)


def _has_term(history: pd.DataFrame, term: str) -> bool:
    column = f"loss/{term}"
    return column in history and bool((history[column].fillna(0) != 0).any())


def _share(history: pd.DataFrame, decision: str, roi: str) -> float:
    column = f"{decision}/{roi}"
    return float(history[column].mean()) if column in history else 0.0


def _evolution(history: pd.DataFrame, rois: Sequence[str]) -> pd.DataFrame:
    """Means over about sixty intervals of the training and over all ROIs."""
    stretch = np.arange(len(history)) * _EVOLUTION_POINTS // max(len(history), 1)
    columns = {"epoch": history["epoch"]}
    for decision in DECISIONS:
        present = [f"{decision}/{roi}" for roi in rois if f"{decision}/{roi}" in history]
        columns[decision] = history[present].mean(axis=1) if present else pd.Series(0.0, history.index)
    return pd.DataFrame(columns).groupby(stretch).mean()
