"""What growing a model costs its old ROIs, and what its new ones gain, against training from scratch.

    python benchmarks/growing.py docs/evidence/growing.csv.gz --figure docs/pictures/growing.png

Reads scores whose runs are named `old-seedS` (the model before), `grown_N-seedS` (grown by N labelled cases of the new
data set) and `scratch_N-seedS` (all data sets together, N cases of the new one); `phantoms_…` for phantoms, `again_…`
for other old models on real CT, and `quarter_…` and `half_…` for these, grown with CTs that nobody labelled as well.
ROIs that the old model scores are the old ones. Prints a table of each with 95 % intervals over cases and trainings,
and draws those with several N.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from raw_scores import average_by_seed, written

from pipeline_lib.reporting.intervals import compare_average
from pipeline_lib.reporting.results import Results
from pipeline_lib.reporting.style import MUTED, PALETTE, figure_style

EXPERIMENTS = {
    "": "real CT",
    "phantoms_": "phantoms",
    "again_": "real CT, other old models",
    "quarter_": "the same, a quarter of the crops of CTs without labels",
    "half_": "the same, half of the crops of CTs without labels",
}
RUN = re.compile(
    rf"(?P<experiment>{'|'.join(EXPERIMENTS)})(?P<method>old|grown|scratch)(_(?P<cases>\d+))?-seed(?P<seed>\d+)"
)
"""Other runs of the file are left out."""


@dataclass(frozen=True)
class Experiment:
    """Scores of old, grown and scratch models; methods are named `old`, `grown_N` and `scratch_N`."""

    title: str
    old: Results
    new: Results

    def counts(self, kind: str) -> list[int]:
        """Numbers of new cases with which there is a `kind` of training, in ascending order."""
        return sorted(int(name.removeprefix(f"{kind}_")) for name in self.new.methods if name.startswith(f"{kind}_"))


def read(path: Path) -> list[Experiment]:
    table = pd.read_csv(path, dtype={"case": str})
    names = table["run"].str.extract(f"^{RUN.pattern}$")
    table = table.assign(
        experiment=names["experiment"],
        method=names["method"] + ("_" + names["cases"]).fillna(""),
        seed=pd.to_numeric(names["seed"]),
    ).dropna(subset="method")
    found = []
    for prefix, title in EXPERIMENTS.items():
        of = table[table["experiment"] == prefix].astype({"seed": int})
        if of.empty:
            continue
        known = tuple(of.loc[of["method"] == "old", "roi"].unique())
        added = tuple(roi for roi in of["roi"].unique() if roi not in known)
        methods = tuple(of["method"].unique())
        found.append(Experiment(title, *(Results(of[of["roi"].isin(rois)], rois, methods) for rois in (known, added))))
    return found


def print_table(one: Experiment) -> None:
    print(f"\n{one.title}; before, the old ROIs have {mean_and_trainings(one.old, 'old')}\n")
    print("| new cases | old ROIs, grown | against before | new ROIs, grown | from scratch | grown − scratch |")
    print("|---|---|---|---|---|---|")
    for count in one.counts("grown"):
        grown, scratch = f"grown_{count}", f"scratch_{count}"
        kept = written(compare_average(*one.old.pair("old", grown)))
        cells = [mean_and_trainings(one.old, grown), kept, mean_and_trainings(one.new, grown), "–", "–"]
        if scratch in one.new.methods:
            cells[3:] = [
                mean_and_trainings(one.new, scratch),
                written(compare_average(*one.new.pair(scratch, grown))),
            ]
        print(f"| {count} | {' | '.join(cells)} |")
    for count in one.counts("scratch"):
        print(f"from scratch with {count}: old ROIs {mean_and_trainings(one.old, f'scratch_{count}')}")


def by_training(results: Results, method: str) -> list[float]:
    return list(average_by_seed(results, method).values())


def mean_and_trainings(results: Results, method: str) -> str:
    values = by_training(results, method)
    return f"{fmean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def drawn(experiments: Sequence[Experiment]) -> Figure:
    """A row for each experiment: the new ROIs on the left, the old ones on the right."""
    figure = Figure(figsize=(9.5, 3.6 * len(experiments)))
    panels = figure.subplots(len(experiments), 2, squeeze=False)
    for one, row in zip(experiments, panels, strict=True):
        for results, axes, which in zip((one.new, one.old), row, ("new", "old"), strict=True):
            draw_panel(one, results, axes, which)
    figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def draw_panel(one: Experiment, results: Results, axes: Axes, which: str) -> None:
    """Dice over the number of new cases; each training is a point, the line their mean."""
    if which == "old":
        axes.axhline(fmean(by_training(results, "old")), color=MUTED, linestyle="--", label="the old model")
    for kind, colour, marker, label in (
        ("scratch", PALETTE[0], "o", "from scratch, all data sets together"),
        ("grown", PALETTE[1], "s", "grown from the old model, without its data"),
    ):
        counts = one.counts(kind)
        dice = [by_training(results, f"{kind}_{count}") for count in counts]
        for count, values in zip(counts, dice, strict=True):
            axes.scatter([count] * len(values), values, s=16, color=colour, alpha=0.5, linewidths=0)
        axes.plot(counts, list(map(fmean, dice)), color=colour, marker=marker, markeredgecolor="white", label=label)
    counts = sorted({*one.counts("grown"), *one.counts("scratch")})
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_title(f"{one.title}: {which} ROIs")
    axes.set_xlabel("labelled cases of the new data set")
    axes.set_ylabel("mean Dice (%)")
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    experiments = [one for one in read(options.scores) if one.counts("grown")]
    if not experiments:
        parser.error(f"{options.scores} has no run named grown_N-seedS")
    for one in experiments:
        print_table(one)
    if options.figure is not None:
        with figure_style():
            # A single number of cases makes no curve.
            drawn([one for one in experiments if len(one.counts("grown")) > 1]).savefig(options.figure)


if __name__ == "__main__":
    main()
