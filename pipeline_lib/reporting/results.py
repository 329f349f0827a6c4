"""Score tables of all runs as one, and the names of ROIs and methods for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..config.runs import ENSEMBLE_SEED, Run
from ..errors import UserError

Runs = Sequence[tuple[str, str, int]]
"""(run, method, seed) in the order of the config. The trainings of a seed's folds are one run in several files."""

OUT_OF_FOLD = "out_of_fold_"
"""How the names of the tables of cross-validation begin."""


@dataclass(frozen=True)
class Results:
    """All scores: one row per run, case and ROI; `rois` and `methods` are in the order of the config.

    The cases are test cases or, with `out_of_fold`, training cases that a fold holds out. `predicted_by` is the
    training or average that predicted a case; `run` is the same except that all folds of a seed are one run.
    """

    scores: pd.DataFrame
    rois: tuple[str, ...]
    methods: tuple[str, ...]
    out_of_fold: bool = False

    @property
    def case_noun(self) -> str:
        """What one of the cases is called, to which an s may be added."""
        return "out-of-fold case" if self.out_of_fold else "test case"

    def file_name(self, table: str) -> str:
        """The name that a table of these scores has in the report's folder."""
        return f"{OUT_OF_FOLD}{table}" if self.out_of_fold else table

    @property
    def trainings(self) -> int:
        """The most seeds that a method was trained with."""
        return int(self.scores.groupby("method")["seed"].nunique().max())

    @property
    def several_trainings(self) -> bool:
        """Whether a method was trained with more than one seed."""
        return self.trainings > 1

    @property
    def ensembles(self) -> frozenset[str]:
        """The methods that are ensembles of another one's trainings."""
        return frozenset(self.scores.loc[self.scores["seed"] == ENSEMBLE_SEED, "method"])

    def matrix(self, method: str, roi: str, column: str = "dice") -> pd.DataFrame:
        """Scores of one method and ROI, a row per (dataset, case) and a column per seed."""
        return self._rows(method, roi).pivot_table(
            index=["dataset", "case"], columns="seed", values=column, dropna=False
        )

    def table(self, method: str) -> np.ndarray:
        """Dice of one method, ROIs × cases × seeds: all cases in the order of `pair`; NaN where there is none."""
        return self._table(method, sorted(set(self._rows(method)["seed"])))

    def average_by_seed(self, method: str) -> pd.Series:
        """The average over ROIs of each training's mean Dice, 0 … 1, by seed; a ROI without a score is left out."""
        return pd.DataFrame({roi: self.matrix(method, roi).mean() for roi in self.rois}).mean(axis=1)

    def pair(self, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
        """Dice of two methods, each ROIs × cases × seeds: all cases and the seeds of both; NaN where there is none.

        An ensemble has no seed that another method has. Then each has one column: its mean over its own seeds.
        """
        seeds = sorted(set.intersection(*(set(self._rows(method)["seed"]) for method in (first, second))))
        return self._table(first, seeds), self._table(second, seeds)

    def holding(self, roi: str) -> pd.MultiIndex:
        """The cases (dataset, case) whose truth contains a ROI."""
        held = self.scores[(self.scores["roi"] == roi) & (self.scores["voxels_truth"] > 0)]
        return pd.MultiIndex.from_frame(held[["dataset", "case"]].drop_duplicates())

    def presence(self, roi: str) -> tuple[int, int]:
        """In how many cases the truth contains a ROI, and in how many its truth is known."""
        known = self.scores.loc[self.scores["roi"] == roi, ["dataset", "case"]].drop_duplicates()
        return len(self.holding(roi)), len(known)

    def present(self) -> np.ndarray:
        """Whether the truth of a case contains a ROI, ROIs × cases in the order of `pair`; False if it is unknown."""
        cases = self._cases()
        return np.stack([cases.isin(self.holding(roi)) for roi in self.rois])

    def false_alarms(self, method: str, roi: str) -> tuple[int, float]:
        """The number of cases without the ROI, and in how many of them it is predicted: mean over the trainings."""
        rows = self._rows(method, roi)
        without = rows[rows["voxels_truth"] == 0]
        cases = len(without[["dataset", "case"]].drop_duplicates())
        return cases, int((without["voxels_prediction"] > 0).sum()) / max(rows["seed"].nunique(), 1)

    def dice_of_runs(self, runs: Mapping[str, str], dataset: str, case: str) -> pd.DataFrame:
        """Dice (0 … 1) of one case, a row per ROI and a column per method, each by the run that `runs` has for it."""
        rows = self.scores[(self.scores["dataset"] == dataset) & (self.scores["case"] == case)]
        rows = rows[rows["run"].isin(runs.values())]
        return rows.pivot_table(index="roi", columns="method", values="dice", dropna=False)

    def dice_by_case(self) -> pd.DataFrame:
        """Mean Dice over seeds: columns method, dataset, case, roi, dice; without rows that have no Dice."""
        keys = ["method", "dataset", "case", "roi"]
        return self.scores.dropna(subset="dice").groupby(keys, sort=False, as_index=False)["dice"].mean()

    def _table(self, method: str, seeds: Sequence[int]) -> np.ndarray:
        """ROIs × cases × `seeds`, or one column with the mean over the method's own if there are none."""
        cases = self._cases()
        tables = [self.matrix(method, roi).reindex(index=cases) for roi in self.rois]
        return np.stack([table.reindex(columns=seeds) if seeds else table.mean(axis=1).to_frame() for table in tables])

    def _cases(self) -> pd.MultiIndex:
        return pd.MultiIndex.from_frame(
            self.scores[["dataset", "case"]].drop_duplicates().sort_values(["dataset", "case"])
        )

    def _rows(self, method: str, roi: str | None = None) -> pd.DataFrame:
        rows = self.scores[self.scores["method"] == method]
        return rows if roi is None else rows[rows["roi"] == roi]


def read_results(files: Sequence[Path], runs: Runs, rois: Sequence[str], out_of_fold: bool = False) -> Results:
    """Read results/scores/RUN.csv of every run, or of every training with a fold if `out_of_fold`.

    `method` and `seed` of each run become columns. Raises UserError for a file that does not belong to any of `runs`.
    """
    known = {run: (method, seed) for run, method, seed in runs}
    parts = []
    for file in files:
        part = pd.read_csv(file, dtype={"case": str, "dataset": str})
        strange = sorted(set(part["run"]) - set(known))
        if strange:
            raise UserError(str(file), f"scores the run {strange[0]!r}", f"expected one of: {', '.join(known)}")
        part.insert(0, "method", part["run"].map(lambda run: known[run][0]))
        part.insert(1, "seed", part["run"].map(lambda run: known[run][1]))
        part.insert(2, "predicted_by", part["run"])
        if out_of_fold:
            part["run"] = part["run"].map(lambda run: run_of_folds(*known[run]))
        parts.append(part)
    methods = tuple(dict.fromkeys(method for _, method, _ in runs))
    return Results(pd.concat(parts, ignore_index=True), tuple(rois), methods, out_of_fold)


def run_of_folds(method: str, seed: int) -> str:
    """The run that stands for all trainings of a seed's folds."""
    return Run.of(method, seed).name


def roi_label(roi: str) -> str:
    """A ROI's name for people: `liver_tumor` becomes `liver tumor`."""
    return roi.replace("_", " ")


def method_label(method: str) -> str:
    return method.replace("_", " ")
