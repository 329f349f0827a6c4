"""How reliable the scores of the ROI-aware network are: reliability diagram, and AUROC per structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .style import MUTED, PALETTE

_MOST_STRUCTURES = 30


def reliability_figure(metrics: Mapping[str, Any], structures: Sequence[str]) -> Figure:
    """Reliability diagram over the structures that decide a ROI's existence, and their AUROC.

    `metrics` is results/roi_aware_network/metrics.json. The curve joins all structures: in each tenth of the scores,
    the mean score and the share of patches that contain the structure; faint points are single structures.
    """
    rows = {name: metrics["structures"][name] for name in structures if name in metrics["structures"]}
    shown = list(rows)[:_MOST_STRUCTURES]
    figure = Figure(figsize=(9, max(4.0, 1.2 + 0.27 * len(shown))))
    reliability, auroc = figure.subplots(1, 2, width_ratios=[1, 1])
    reliability.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", label="perfect calibration")
    points = [point for row in rows.values() for point in row["curve"]]
    reliability.scatter(
        [point["mean_score"] for point in points],
        [point["share_present"] for point in points],
        s=[4 + 36 * np.sqrt(point["patches"] / metrics["patches"]) for point in points],
        color=PALETTE[0],
        alpha=0.25,
        linewidths=0,
        label="one structure (area: patches)",
    )
    scores, shares = _joined(points)
    reliability.plot(scores, shares, color=PALETTE[1], marker="o", markersize=5, linewidth=1.6, label="all together")
    reliability.set_xlim(-0.02, 1.02)
    reliability.set_ylim(-0.02, 1.02)
    reliability.set_aspect("equal")
    reliability.yaxis.set_major_formatter(PercentFormatter(1))
    reliability.set_xlabel("mean existence score")
    reliability.set_ylabel("share of patches with the structure")
    reliability.set_title("reliability on held-out cases")
    reliability.grid(linewidth=0.4, alpha=0.6)
    for place, name in enumerate(shown):
        value = rows[name]["auroc"]
        if value is None:
            auroc.text(0.51, place, rows[name]["not_scored_because"], va="center", fontsize=8, color=MUTED)
        else:
            auroc.hlines(place, 0.5, value, color=MUTED, linewidth=0.8)
            auroc.plot(value, place, marker="o", color=PALETTE[0], markersize=6)
            auroc.annotate(f"{value:.2f}", (value, place), (5, 0), textcoords="offset points", va="center", fontsize=8)
    auroc.set_yticks(range(len(shown)), [name.replace("_", " ") for name in shown], fontsize=8)
    auroc.set_ylim(len(shown) - 0.5, -0.5)
    auroc.set_xlim(0.5, 1.08)
    auroc.set_xticks(np.arange(0.5, 1.01, 0.1))
    auroc.set_xlabel("AUROC (0.5: chance)")
    auroc.set_title("discrimination of patches")
    auroc.tick_params(axis="y", length=0)
    # Outside: a curve may run through any corner of the diagram.
    figure.legend(*reliability.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8)
    return figure


def _joined(points: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    """The curve of all structures together, weighted by patches, by tenths of the score."""
    scores, shares = [], []
    tenths = [min(int(10 * point["mean_score"]), 9) for point in points]
    for tenth in sorted(set(tenths)):
        inside = [point for point, place in zip(points, tenths, strict=True) if place == tenth]
        weights = [point["patches"] for point in inside]
        scores.append(float(np.average([point["mean_score"] for point in inside], weights=weights)))
        shares.append(float(np.average([point["share_present"] for point in inside], weights=weights)))
    return scores, shares
