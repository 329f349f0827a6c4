"""The tables and figures of methods in docs/evidence.md, from the raw scores that lie beside it.

    python benchmarks/rows.py docs/evidence/openkbp_1000_steps.csv.gz --figure docs/pictures/rows.png
    python benchmarks/rows.py docs/evidence/openkbp_*3000_steps.csv.gz --curve docs/pictures/few_labels.png

Reads files whose names end with the number of steps and whose runs are named METHOD-seedS. Methods whose name ends with
`_N` learned from N labelled patients of each site; each is compared with the `baseline` of the same N. Prints a table
in Markdown for each N, with 95 % intervals over cases and trainings (docs/statistics.md), and draws the differences,
or the average of each method over N.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from raw_scores import average_by_seed, written

from pipeline_lib.reporting.intervals import Difference, compare_average
from pipeline_lib.reporting.label_curve import LabelCurve, average_curve, cases_for, label_curve_figure
from pipeline_lib.reporting.results import Results
from pipeline_lib.reporting.style import MUTED, PALETTE, figure_style

RUN = re.compile(r"(?P<method>.+?(_(?P<patients>\d+))?)-seed(?P<seed>\d+)")
STEPS = re.compile(r"_(\d+)_steps")
BASELINE = "baseline"
ALL_PATIENTS = 20
"""Labelled training patients of each site in config/openkbp.yaml."""


@dataclass(frozen=True, eq=False)
class Group:
    """Methods that learned as long, from the same number of labelled patients per site (None: from all)."""

    steps: int
    patients: int | None
    results: Results

    @property
    def baseline(self) -> str:
        return self.name(BASELINE)

    def name(self, base: str) -> str:
        """A method of this group as the scores name it."""
        return base if self.patients is None else f"{base}_{self.patients}"

    def base(self, method: str) -> str:
        """A method's name without the number of patients."""
        return method if self.patients is None else method.removesuffix(f"_{self.patients}")

    @property
    def title(self) -> str:
        patients = "all labelled patients" if self.patients is None else f"{self.patients} labelled patients per site"
        return f"{patients}, {self.steps:,} steps"

    def gain(self, method: str) -> Difference:
        return compare_average(*self.results.pair(self.baseline, method))

    def average_by_seed(self, method: str) -> dict[int, float]:
        return average_by_seed(self.results, method)

    def false_share(self, method: str) -> float:
        """False voxels per true one, over all ROIs, cases and trainings."""
        sums = self.results.scores.query("method == @method")[
            ["voxels_truth", "voxels_prediction", "voxels_both"]
        ].sum()
        return float((sums["voxels_prediction"] - sums["voxels_both"]) / sums["voxels_truth"])


def read(path: Path) -> list[Group]:
    """The groups of a file, that of all patients first and then by descending number; only those with a baseline.

    ValueError if the file's name does not tell the number of steps, or if a run is not a training.
    """
    if (steps := STEPS.search(path.name)) is None:
        raise ValueError(f"{path}: its name must end with the number of steps, as in scores_1000_steps.csv.gz")
    table = pd.read_csv(path, dtype={"case": str})
    names = table["run"].str.extract(f"^{RUN.pattern}$")
    if strange := table.loc[names["method"].isna(), "run"].unique().tolist():
        raise ValueError(f"{path}: run {strange[0]} is not named METHOD-seedS")
    table = table.assign(
        method=names["method"], patients=names["patients"].fillna("all"), seed=names["seed"].astype(int)
    )
    rois = tuple(table["roi"].unique())
    groups = []
    for patients, of in table.groupby("patients"):
        count = None if patients == "all" else int(str(patients))
        group = Group(int(steps[1]), count, Results(of, rois, tuple(of["method"].unique())))
        if group.baseline in group.results.methods:
            groups.append(group)
    return sorted(groups, key=lambda group: -math.inf if group.patients is None else -group.patients)


def print_table(group: Group) -> None:
    rois = group.results.rois
    print(f"\n{group.title}\n")
    print(f"| method | {' | '.join(rois)} | average | against baseline | false voxels per true one | by seed |")
    print("|---" * (len(rois) + 5) + "|")
    for method in group.results.methods:
        means = [100 * group.results.matrix(method, roi).mean().mean() for roi in rois]
        averages = group.average_by_seed(method)
        print(
            f"| `{method}` | {' | '.join(f'{mean:.1f}' for mean in means)} | {fmean(averages.values()):.1f} "
            f"| {'–' if method == group.baseline else written(group.gain(method))} "
            f"| {group.false_share(method):.2f} | {', '.join(f'{value:.1f}' for value in averages.values())} |"
        )


def drawn(groups: Sequence[Group], trained_at_least: int) -> Figure:
    """A panel for each group: a row for each method with at least so many trainings, best first.

    ValueError if there is no such method.
    """
    rows = {group: methods for group in groups if (methods := _rows_of(group, trained_at_least))}
    if not rows:
        raise ValueError(f"no method has {trained_at_least} trainings beside those of its baseline")
    heights = [len(methods) for methods in rows.values()]
    figure = Figure(figsize=(8, 1.2 + 0.42 * sum(heights) + 0.5 * len(rows)))
    panels = figure.subplots(len(rows), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for (group, methods), axes in zip(rows.items(), panels, strict=True):
        draw_panel(group, methods, axes)
    panels[-1].set_xlabel("mean Dice against baseline (percentage points)")
    return figure


def _rows_of(group: Group, trained_at_least: int) -> list[str]:
    others = [method for method in group.results.methods if method != group.baseline]
    trained = [method for method in others if group.gain(method).trainings >= trained_at_least]
    return sorted(trained, key=lambda method: group.gain(method).mean)


def draw_panel(group: Group, methods: Sequence[str], axes: Axes) -> None:
    """Each training's difference as a point, their mean and its interval as a bar."""
    axes.axvline(0, color=MUTED, linewidth=1)
    before = group.average_by_seed(group.baseline)
    for row, method in enumerate(methods):
        found = group.gain(method)
        by_seed = group.average_by_seed(method)
        each = [by_seed[seed] - before[seed] for seed in sorted(by_seed.keys() & before.keys())]
        low, high = 100 * found.low, 100 * found.high
        axes.plot([low, high], [row, row], color=PALETTE[0], linewidth=2.5, solid_capstyle="butt")
        axes.plot(100 * found.mean, row, marker="o", color=PALETTE[0], markersize=7, markeredgecolor="white")
        axes.scatter(each, [row - 0.27] * len(each), s=14, color=PALETTE[1], linewidths=0)
        axes.annotate(
            written(found),
            (1.01, row),
            xycoords=("axes fraction", "data"),
            verticalalignment="center",
            annotation_clip=False,
        )
    axes.set_yticks(range(len(methods)), [group.base(method) for method in methods])
    axes.set_ylim(-0.6, len(methods) - 0.4)
    averages = group.average_by_seed(group.baseline).values()
    axes.set_title(f"{group.title}: baseline {fmean(averages):.1f} %")
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.tick_params(axis="y", length=0)


def curves(groups: Sequence[Group]) -> list[LabelCurve]:
    """The average of each method over the number of labelled patients per site, baseline first.

    Of the groups that learned longest. Where several files have a method with as many patients, the one with most
    trainings of it counts. ValueError if baseline learned from one number of patients alone.
    """
    steps = max(group.steps for group in groups)
    found: dict[str, dict[int, tuple[Group, str]]] = {}
    for group in groups:
        for method in group.results.methods if group.steps == steps else ():
            points, count = found.setdefault(group.base(method), {}), group.patients or ALL_PATIENTS
            if count not in points or _trainings(group, method) > _trainings(*points[count]):
                points[count] = group, method
    curved = {base: dict(sorted(points.items())) for base, points in found.items() if len(points) > 1}
    if BASELINE not in curved:
        raise ValueError(f"{BASELINE} needs two numbers of labelled patients for a curve")
    return [_curve(curved[base]) for base in sorted(curved, key=lambda base: base != BASELINE)]


def _trainings(group: Group, method: str) -> int:
    return len(group.average_by_seed(method))


def _curve(points: Mapping[int, tuple[Group, str]]) -> LabelCurve:
    scores = pd.concat([group.results.scores.query("method == @method") for group, method in points.values()])
    methods = tuple(method for _, method in points.values())
    rois = next(iter(points.values()))[0].results.rois
    return average_curve({count: method for count, (_, method) in points.items()}, Results(scores, rois, methods))


def print_worth(shown: Sequence[LabelCurve]) -> None:
    """For each point, how many labelled patients per site the first curve needs for as much."""
    alone, *others = shown
    print("\n| method | labelled patients per site | average | labels alone reach it with |")
    print("|---|---|---|---|")
    for curve in others:
        for count, mean in curve.means.items():
            needed = cases_for(alone, mean)
            print(f"| `{curve.name}` | {count} | {100 * mean:.1f} | {'–' if needed is None else f'{needed:.1f}'} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, nargs="+")
    parser.add_argument("--figure", type=Path, help="draw the differences from labels alone")
    parser.add_argument("--curve", type=Path, help="draw the averages over the number of labelled patients")
    parser.add_argument(
        "--trainings", type=int, default=3, help="fewest trainings of a method in the figure (default 3)"
    )
    options = parser.parse_args()
    try:
        groups = [group for path in options.scores for group in read(path)]
        for group in groups:
            print_table(group)
        if options.figure is not None:
            with figure_style():
                drawn(groups, options.trainings).savefig(options.figure)
        if options.curve is not None:
            shown = curves(groups)
            print_worth(shown)
            with figure_style():
                names = [curve.name for curve in shown]
                label_curve_figure(shown, "labelled patients per site", names, shown[0]).savefig(options.curve)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
