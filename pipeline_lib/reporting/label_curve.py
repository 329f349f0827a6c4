"""What a labelled case is worth: Dice of a data set's ROIs against the number of its cases in the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..config.datasets import Dataset
from ..config.methods import Method
from ..config.validation import cases_with_labels
from .intervals import Summary, summarise
from .results import Results, method_label, roi_label
from .style import method_colours, method_markers

_BESIDE = 0.12
"""Distance between two methods' trainings with as many cases, in doublings of the number."""
_FEWEST_COUNTS = 2
"""Numbers of labelled cases that make a curve."""


@dataclass(frozen=True)
class LabelCurve:
    """Dice of one ROI for methods that differ in nothing but `labelled_cases`.

    `counts` rise; `dice` has the summary of each, `trainings` the mean Dice of each single training.
    """

    name: str
    roi: str
    counts: tuple[int, ...]
    dice: tuple[Summary, ...]
    trainings: tuple[tuple[float, ...], ...]


def label_curves(
    dataset: Dataset, methods: Mapping[str, Method], results: Results, folds: bool = False
) -> list[LabelCurve]:
    """A curve for each ROI of `dataset` and each group of methods that differ only in the number of its cases.

    A curve is named after the method that learns from the most cases. As in `labelled_cases`, a case whose row in the
    table of labels is empty does not count. With `folds` a method that learns from all cases has no point: their number
    differs from fold to fold.
    """
    everything = None if folds else len(cases_with_labels(dataset, dataset.split_cases("train")))
    groups: dict[str, dict[int, str]] = {}
    for name, method in methods.items():
        others = {place: count for place, count in method.labelled_cases.items() if place != dataset.name}
        key = method.model_copy(update={"labelled_cases": others}).model_dump_json()
        if (count := method.labelled_cases.get(dataset.name, everything)) is not None:
            groups.setdefault(key, {})[count] = name
    return [
        _curve(dict(sorted(named.items())), roi, results)
        for roi in results.rois
        if roi in dataset.labels
        for named in groups.values()
        if len(named) >= _FEWEST_COUNTS
    ]


def _curve(named: Mapping[int, str], roi: str, results: Results) -> LabelCurve:
    tables = [results.matrix(method, roi) for method in named.values()]
    return LabelCurve(
        name=list(named.values())[-1],
        roi=roi,
        counts=tuple(named),
        dice=tuple(summarise(table.to_numpy(), largest=1.0) for table in tables),
        trainings=tuple(tuple(table.mean(axis=0)) for table in tables),
    )


def label_curve_figure(curves: Sequence[LabelCurve], dataset: Dataset, methods: Sequence[str]) -> Figure:
    """One panel per ROI, one line per curve, in the colour that its method has among all `methods`."""
    rois = list(dict.fromkeys(curve.roi for curve in curves))
    colours, markers = method_colours(methods), method_markers(methods)
    figure = Figure(figsize=(1.5 + 4.2 * len(rois), 3.8))
    for axes, roi in zip(figure.subplots(1, len(rois), squeeze=False)[0], rois, strict=True):
        shown = [curve for curve in curves if curve.roi == roi]
        for place, curve in enumerate(shown):
            colour = colours[curve.name]
            # Side by side, so that no training hides another's.
            aside = 2 ** (_BESIDE * (place - (len(shown) - 1) / 2))
            low, high = [each.low for each in curve.dice], [each.high for each in curve.dice]
            axes.fill_between(curve.counts, low, high, color=colour, alpha=0.15, linewidth=0)
            for count, values in zip(curve.counts, curve.trainings, strict=True):
                axes.scatter([aside * count] * len(values), values, s=14, color=colour, alpha=0.6, linewidths=0)
            axes.plot(
                curve.counts,
                [each.mean for each in curve.dice],
                color=colour,
                marker=markers[curve.name],
                markeredgecolor="white",
                label=method_label(curve.name),
            )
        counts = sorted({count for curve in curves for count in curve.counts})
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlim(counts[0] / math.sqrt(2), counts[-1] * math.sqrt(2))
        axes.set_ylim(0, 1.08 * max(0.05, *_drawn_dice(curves)))
        axes.set_title(roi_label(roi))
        axes.set_xlabel(f"labelled cases of {dataset.name}")
        axes.set_ylabel("mean Dice (%)")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _drawn_dice(curves: Sequence[LabelCurve]) -> list[float]:
    """All numbers in the panels; the bounds of an interval are NaN where there are too few cases."""
    values = [each.high for curve in curves for each in curve.dice]
    values += [dice for curve in curves for dices in curve.trainings for dice in dices]
    return [value for value in values if not math.isnan(value)]
