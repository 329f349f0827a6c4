"""What a labelled case is worth: Dice against the number of labelled cases in the training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ..config.datasets import Dataset
from ..config.methods import Method
from .intervals import Summary, summarise, summarise_average
from .results import Results, method_label, roi_label
from .style import method_colours, method_markers
from .tables import AVERAGE

_BESIDE = 0.12
"""Distance between two methods' trainings with as many cases, in doublings of the number."""
_ROOM = 0.5
"""Distance from the axes' ends to the smallest and largest number, in doublings."""
_FEWEST_COUNTS = 2
"""Numbers of labelled cases that make a curve."""
_FEWEST_DATASETS = 2
"""Data sets whose numbers differ within a curve of the average. With one, curves of its own ROIs say more."""


@dataclass(frozen=True)
class LabelCurve:
    """Dice of one ROI, or of the average over all, for methods that differ in nothing but `labelled_cases`.

    `counts` rise; `dice` has the summary of each, `trainings` the mean Dice of each single training.
    """

    name: str
    roi: str
    counts: tuple[int, ...]
    dice: tuple[Summary, ...]
    trainings: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> dict[int, float]:
        """Number of labelled cases → mean Dice over cases and trainings."""
        return {count: each.mean for count, each in zip(self.counts, self.dice, strict=True)}


def label_curves(
    dataset: Dataset, methods: Mapping[str, Method], results: Results, labelled: Mapping[str, int]
) -> list[LabelCurve]:
    """A curve for each ROI of `dataset` and each group of methods that differ only in the number of its cases.

    A curve is named after the method that learns from the most cases. `labelled` has the labelled training cases of
    each data set (`TrainingSetup`); a method that learns from all of them has no point where their number is not known.
    """
    everything = labelled.get(dataset.name)
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


def overall_label_curves(
    datasets: Sequence[Dataset], methods: Mapping[str, Method], results: Results, labelled: Mapping[str, int]
) -> list[LabelCurve]:
    """A curve of the average over ROIs for each group of methods that differ only in the cases of several data sets.

    What counts are the cases of the data sets in which a group's numbers differ; groups whose data sets are not those
    of the first one have no line. There is no curve where a method of a group has more cases of one data set and fewer
    of another than the next. One-point curves follow: methods of the other groups that learn from as many cases as a
    method of the first curve. `labelled` as in `label_curves`.
    """
    limited = [each.name for each in datasets if any(each.name in method.labelled_cases for method in methods.values())]
    groups: dict[str, dict[str, dict[str, int]]] = {}
    for name, method in methods.items():
        key = method.model_copy(update={"labelled_cases": {}}).model_dump_json()
        groups.setdefault(key, {})[name] = {**labelled, **method.labelled_cases}
    curves: dict[tuple[str, ...], list[LabelCurve]] = {}
    for cases in groups.values():
        varied = tuple(each for each in limited if len({of.get(each) for of in cases.values()}) > 1)
        named = {tuple(of[each] for each in varied): name for name, of in cases.items() if of.keys() >= set(varied)}
        if _varied(list(named)) >= _FEWEST_DATASETS and _in_order(list(named)):
            rising = {sum(counts): named[counts] for counts in sorted(named, key=sum)}
            curves.setdefault(varied, []).append(average_curve(rising, results))
    if not curves:
        return []
    varied, found = next(iter(curves.items()))
    drawn = {curve.name for curve in found}
    first = next(cases for cases in groups.values() if found[0].name in cases)
    on_first = [[of.get(each) for each in limited] for of in first.values() if of.keys() >= set(varied)]
    return found + [
        average_curve({sum(of[each] for each in varied): name}, results)
        for cases in groups.values()
        if not drawn & cases.keys()
        for name, of in cases.items()
        if [of.get(each) for each in limited] in on_first
    ]


def _varied(counts: Sequence[tuple[int, ...]]) -> int:
    """The number of data sets of which not all methods have the same number of cases."""
    return sum(len(set(of_dataset)) > 1 for of_dataset in zip(*counts, strict=True))


def _in_order(counts: Sequence[tuple[int, ...]]) -> bool:
    """Whether each method has as many cases of every data set as the next smaller one, or more."""
    rising = sorted(counts, key=sum)
    return all(fewer <= more for first, second in pairwise(rising) for fewer, more in zip(first, second, strict=True))


def _curve(named: Mapping[int, str], roi: str, results: Results) -> LabelCurve:
    tables = [results.matrix(method, roi) for method in named.values()]
    return LabelCurve(
        name=list(named.values())[-1],
        roi=roi,
        counts=tuple(named),
        dice=tuple(summarise(table.to_numpy(), largest=1.0) for table in tables),
        trainings=tuple(tuple(table.mean(axis=0)) for table in tables),
    )


def average_curve(named: Mapping[int, str], results: Results) -> LabelCurve:
    """The curve of the average over ROIs of methods by their number of labelled cases, which rises."""
    return LabelCurve(
        name=list(named.values())[-1],
        roi=AVERAGE,
        counts=tuple(named),
        dice=tuple(summarise_average(results.table(each), largest=1.0) for each in named.values()),
        trainings=tuple(tuple(results.average_by_seed(each)) for each in named.values()),
    )


def cases_for(curve: LabelCurve, dice: float) -> float | None:
    """The fewest labelled cases with which a curve reaches a mean Dice; None beyond its ends.

    Between two points of the curve, Dice is taken to be linear in the logarithm of the number.
    """
    points = [(math.log2(count), mean) for count, mean in curve.means.items()]
    if dice < points[0][1]:
        return None
    for (left, low), (right, high) in pairwise(points):
        if low == dice:
            return 2**left
        if low < dice <= high:
            return 2 ** (left + (right - left) * (dice - low) / (high - low))
    return None


def cases_spared(curve: LabelCurve, alone: LabelCurve) -> dict[int, float]:
    """Number of a curve's labelled cases → that with which `alone` has its mean, where that is at least one more."""
    needed = {count: cases_for(alone, mean) for count, mean in curve.means.items()}
    return {count: cases for count, cases in needed.items() if cases is not None and cases >= count + 1}


def label_curve_figure(
    curves: Sequence[LabelCurve], counted: str, methods: Sequence[str], alone: LabelCurve | None = None
) -> Figure:
    """One panel per ROI, one line per curve, in the colour that its method has among all `methods`.

    `counted` says what the numbers below the panels count. Dotted lines lead from the means of the other curves to
    where that of `alone` is as high.
    """
    rois = list(dict.fromkeys(curve.roi for curve in curves))
    colours, markers = method_colours(methods), method_markers(methods)
    figure = Figure(figsize=(1.5 + 4.2 * len(rois), 3.8))
    for axes, roi in zip(figure.subplots(1, len(rois), squeeze=False)[0], rois, strict=True):
        shown = [curve for curve in curves if curve.roi == roi]
        counts = sorted({count for curve in shown for count in curve.counts})
        for curve, aside in zip(shown, _side_by_side(shown, counts), strict=True):
            colour, is_point = colours[curve.name], len(curve.counts) == 1
            low, high = [each.low for each in curve.dice], [each.high for each in curve.dice]
            places: Sequence[float] = curve.counts
            if is_point:
                places = [aside * curve.counts[0]]
                axes.vlines(places, low, high, color=colour, alpha=0.3, linewidth=5)
            axes.fill_between(curve.counts, low, high, color=colour, alpha=0.15, linewidth=0)
            for count, values in zip(curve.counts, curve.trainings, strict=True):
                axes.scatter([aside * count] * len(values), values, s=14, color=colour, alpha=0.6, linewidths=0)
            axes.plot(
                places,
                list(curve.means.values()),
                color=colour,
                linestyle="none" if is_point else "-",
                marker=markers[curve.name],
                markeredgecolor="white",
                label=method_label(curve.name),
            )
            if alone is not None and curve is not alone:
                for count, cases in cases_spared(curve, alone).items():
                    mean = curve.means[count]
                    start = places[curve.counts.index(count)]
                    axes.plot([start, cases], [mean, mean], color=colour, linestyle=":", linewidth=1.2)
                    axes.plot(cases, mean, color=colour, marker="|", markersize=9)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlim(counts[0] / 2**_ROOM, counts[-1] * 2**_ROOM)
        drawn = _drawn_dice(shown) or [0, 1]
        margin = max(0.02, 0.08 * (max(drawn) - min(drawn)))
        axes.set_ylim(max(0, min(drawn) - margin), max(drawn) + margin)
        axes.set_title(roi_label(roi))
        axes.set_xlabel(counted)
        axes.set_ylabel("mean Dice (%)")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=None))
        axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def _side_by_side(curves: Sequence[LabelCurve], counts: Sequence[int]) -> list[float]:
    """The factor of each curve's numbers at which its trainings are drawn, so that none hides another's.

    Curves of one point are left of all lines, in the room up to the axes' end and to the middle between two `counts`.
    """
    lines = sum(len(curve.counts) > 1 for curve in curves)
    room = min([_ROOM, *(math.log2(right / left) / 2 for left, right in pairwise(counts))])
    left_of_lines = _BESIDE / 2 * lines
    step = min(_BESIDE, max(_BESIDE, room - left_of_lines) / max(1, len(curves) - lines))
    of_lines = iter(_BESIDE * (place - (lines - 1) / 2) for place in range(lines))
    of_points = iter(-left_of_lines - step * (place + 0.5) for place in range(len(curves) - lines))
    return [2 ** next(of_lines if len(curve.counts) > 1 else of_points) for curve in curves]


def _drawn_dice(curves: Sequence[LabelCurve]) -> list[float]:
    """All numbers in the panels; the bounds of an interval are NaN where there are too few cases."""
    values = [bound for curve in curves for each in curve.dice for bound in (each.low, each.high)]
    values += [dice for curve in curves for dices in curve.trainings for dice in dices]
    return [value for value in values if not math.isnan(value)]
