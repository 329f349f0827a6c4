"""How often intervals and tests of a difference between two methods are wrong, by simulation and on real trainings.

    python benchmarks/significance.py
    python benchmarks/significance.py --cases 40
    python benchmarks/significance.py --difference 5
    python benchmarks/significance.py --scores docs/evidence/scores_1040_steps.csv.gz

Two methods are drawn many times: paired differences of cases × trainings are case + training + residual, all normal,
around 0 or --difference, where shares of p < 0.05 are the power. `t` is the report's interval and test
(pipeline_lib/reporting/intervals.py), beside two usual ones: the percentile bootstrap over cases and trainings, and
Wilcoxon's signed-rank test over the cases, of differences averaged over trainings. With one training `t` is an interval
over cases alone and has no test.

With --scores, trainings of one method are compared with other trainings of the same method instead, as in a report.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pipeline_lib.reporting.findings import SIGNIFICANT
from pipeline_lib.reporting.intervals import FEWEST_CASES, Difference, compare, compare_average, holm
from pipeline_lib.reporting.results import Results
from pipeline_lib.reporting.statistics import difference_table
from pipeline_lib.reporting.tables import AVERAGE

COMPONENTS = (
    (0, 0, 6),
    (0, 1.5, 6),
    (0, 3, 6),
    (2, 5, 6),
    (0, 8, 8),
    (3, 10, 8),
    (5, 3, 8),
    (10, 0, 3),
    (15, 5, 7),
)
"""Standard deviations in points of Dice of what differs by case, by training and by both."""
TRAININGS = (1, 2, 3, 5)
ROIS, FEW = 7, 3
"""ROIs of an average, and how many of them are in a few cases only."""
FEW_CASES = 4
DRAWS = 400


@dataclass(frozen=True)
class Drawn:
    """What is simulated: comparisons of two methods on `cases`, the second better by `difference` (0 … 1)."""

    repetitions: int
    cases: int
    difference: float
    skewed: bool

    def scores(self, rng: np.random.Generator, trainings: int, components: tuple[float, ...]) -> np.ndarray:
        """Methods × cases × trainings; each method has half of each variance, but for that of skewed cases."""
        shapes = ((2, self.cases, 1), (2, 1, trainings), (2, self.cases, trainings))
        parts = [rng.normal(0, sd / 100 / np.sqrt(2), shape) for sd, shape in zip(components, shapes, strict=True)]
        if self.skewed:
            parts[0] = (
                components[0] / 100 * np.stack([np.zeros((self.cases, 1)), 1 - rng.exponential(size=(self.cases, 1))])
            )
        return sum(parts) + np.reshape([0, self.difference], (2, 1, 1))


def bootstrap_interval(rng: np.random.Generator, scores: np.ndarray) -> tuple[float, float]:
    """Percentiles of the difference between means, with cases drawn together and trainings by method."""
    _, cases, trainings = scores.shape
    of_cases = rng.multinomial(cases, np.full(cases, 1 / cases), DRAWS) / cases
    of_trainings = rng.multinomial(trainings, np.full(trainings, 1 / trainings), (2, DRAWS)) / trainings
    first, second = (
        (of_cases @ method * drawn).sum(axis=1) for method, drawn in zip(scores, of_trainings, strict=True)
    )
    low, high = np.quantile(second - first, [0.025, 0.975])
    return float(low), float(high)


def covers(low: float, high: float, truth: float) -> bool:
    return low <= truth <= high


def simulated(rng: np.random.Generator, drawn: Drawn) -> pd.DataFrame:
    """Coverage and share of p < 0.05 by components and number of trainings."""
    rows = []
    for components in COMPONENTS:
        for trainings in TRAININGS:
            pairs = [drawn.scores(rng, trainings, components) for _ in range(drawn.repetitions)]
            intervals = [bootstrap_interval(rng, scores) for scores in pairs]
            gains = np.stack([(second - first).mean(axis=1) for first, second in pairs])
            rows.append(
                {"case, training, residual": components, "trainings": trainings}
                | shares([compare(first, second) for first, second in pairs], drawn.difference)
                | {
                    "covered, bootstrap": np.mean([covers(*each, drawn.difference) for each in intervals]),
                    "p < 0.05, Wilcoxon": np.mean(stats.wilcoxon(gains, axis=1).pvalue < SIGNIFICANT),
                }
            )
    return pd.DataFrame(rows)


def simulated_average(rng: np.random.Generator, drawn: Drawn) -> pd.DataFrame:
    """The same for the average over ROIs, some of which only a few cases have; a training is alike for all ROIs."""
    rows = []
    for case, training, residual in COMPONENTS:
        for trainings in TRAININGS[1:]:
            found = []
            for _ in range(drawn.repetitions):
                rois = np.stack([drawn.scores(rng, trainings, (case, 0, residual)) for _ in range(ROIS)])
                rois += rng.normal(0, training / 100 / np.sqrt(2), (2, 1, trainings))
                for roi in rois[:FEW]:
                    roi[:, rng.permutation(drawn.cases)[FEW_CASES:]] = np.nan
                found.append(compare_average(rois[:, 0], rois[:, 1]))
            components = {"case, training, residual": (case, training, residual), "trainings": trainings}
            rows.append(components | shares(found, drawn.difference))
    return pd.DataFrame(rows)


def shares(found: list[Difference], difference: float) -> dict[str, float]:
    tested = found[0].trainings > 1
    return {
        "covered, t": np.mean([covers(each.low, each.high, difference) for each in found]),
        "p < 0.05, t": np.mean([each.p < SIGNIFICANT for each in found]) if tested else np.nan,
    }


def by_trainings(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each set of components; a cell has the values for all numbers of trainings in turn."""
    numbers = ", ".join(str(number) for number in table["trainings"].unique())
    cells = table.drop(columns="trainings").groupby("case, training, residual", sort=False).agg(list)
    cells = cells.map(lambda values: ", ".join("–" if np.isnan(value) else f"{value:.3f}" for value in values))
    return cells.rename(columns=lambda name: f"{name} ({numbers} trainings)").reset_index()


def against_itself(path: Path) -> pd.DataFrame:
    """Shares of comparisons of a method's trainings with its other trainings that are called beyond chance."""
    found: dict[str, list[bool]] = {}
    for compared in relabelled(pd.read_csv(path)):
        table = difference_table(compared, "nnunet").set_index("roi")
        first, second = compared.pair("one", "other")
        of_cases = wilcoxon_by_roi(first, second)
        for name, p_values in (
            ("average: p < 0.05", [table.at[AVERAGE, "p"]]),
            ("ROI: p < 0.05", table["p"].drop(AVERAGE).dropna()),
            ("ROI: p < 0.05, Wilcoxon", of_cases[~np.isnan(of_cases)]),
            ("some ROI (Holm)", [table["p_holm"].min()]),
            ("some ROI (Holm), Wilcoxon", [np.nanmin(holm(of_cases))]),
        ):
            found.setdefault(name, []).extend(p < SIGNIFICANT for p in p_values)
    comparisons = {"comparisons": len(found["average: p < 0.05"])}
    return pd.DataFrame([comparisons | {name: np.mean(called) for name, called in found.items()}])


def wilcoxon_by_roi(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Wilcoxon's p over the cases of each ROI, methods as ROIs × cases × trainings; NaN for fewer than six cases."""
    gains = [(roi[~np.isnan(roi).any(axis=1)]).mean(axis=1) for roi in second - first]
    tests = [
        stats.wilcoxon(gain, zero_method="zsplit").pvalue if len(gain) >= FEWEST_CASES else np.nan for gain in gains
    ]
    return np.array(tests)


def relabelled(scores: pd.DataFrame) -> Iterator[Results]:
    """Two trainings of a method as the method `one`, and two others of the same method as `other`."""
    rois = tuple(scores["roi"].unique())
    by_training = dict(iter(scores.groupby("training")))
    methods: dict[str, list[str]] = {}
    for training in by_training:
        methods.setdefault(re.sub(r"-seed\d+$", "", str(training)), []).append(str(training))
    for trainings in methods.values():
        for pair in combinations(trainings, 2):
            for other in combinations([each for each in trainings if each > pair[0] and each not in pair], 2):
                parts = [
                    by_training[training].assign(method=method, seed=seed)
                    for method, chosen in (("one", pair), ("other", other))
                    for seed, training in enumerate(chosen)
                ]
                yield Results(pd.concat(parts), rois, ("one", "other"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=13, help="test cases")
    parser.add_argument("--difference", type=float, default=0, help="true difference in points of Dice")
    parser.add_argument("--skewed", action="store_true", help="cases' differences have a long tail (exponential)")
    parser.add_argument("--repetitions", type=int, default=1000, help="simulated comparisons for each line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", type=Path, help="scores of trainings (columns training, dataset, case, roi, dice, …)"
    )
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    if options.scores:
        print("Trainings of a method against others of it, two each")
        print(against_itself(options.scores).to_string(index=False, float_format="{:.3f}".format))
        return
    drawn = Drawn(options.repetitions, options.cases, options.difference / 100, options.skewed)
    print(f"One ROI\n{by_trainings(simulated(rng, drawn)).to_string(index=False)}\n")
    print(f"Average over {ROIS} ROIs, {FEW} of them in {FEW_CASES} cases")
    print(by_trainings(simulated_average(rng, drawn)).to_string(index=False))


if __name__ == "__main__":
    main()
