"""What a report is made from, in six parts; figures and page each take from it what they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..config.datasets import Dataset
from ..config.evaluation import Scores
from ..config.methods import Method
from .existence_check import ExistenceCheck
from .results import Results
from .scans import Scan
from .statistics import difference_table, summary_table
from .tables import dice_table

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Evaluation:
    """All scores, how they were taken, and the tables that summarise them (see `tables` and `statistics`)."""

    results: Results
    settings: Scores
    dice: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame

    @property
    def other_where_present(self) -> pd.Series:
        """Rows of `summary` whose mean Dice over the cases that contain the ROI is not the mean over all cases."""
        return (self.summary["dice_mean_present"] - self.summary["dice_mean"]).abs() > _ROUNDING

    @classmethod
    def from_results(cls, results: Results, settings: Scores, datasets: Sequence[Dataset]) -> Evaluation:
        return cls(
            results=results,
            settings=settings,
            dice=dice_table(results, settings.convention, [dataset.name for dataset in datasets]),
            summary=summary_table(results),
            differences=difference_table(results, settings.convention),
        )


@dataclass(frozen=True)
class Mistakes:
    """What is predicted in place of what (`confusion.read_confusion`), and where false voxels lie (`false_voxels`)."""

    confusion: pd.DataFrame
    false_voxels: pd.DataFrame


@dataclass(frozen=True)
class Slices:
    """Scored cases by (data set, case), and for each method the run that stands for it."""

    scans: Mapping[tuple[str, str], Scan]
    runs: Mapping[str, str]


@dataclass(frozen=True)
class Trainings:
    """The compared methods by name, for each run its method and its history, and what the teachers taught.

    `labelled_cases` counts those of each data set that all may learn from, `TrainingSetup.labelled`. `pseudo_labels` is
    the table of `pseudo_labels.read_pseudo_labels`; None where the pipeline did not make it.
    """

    methods: Mapping[str, Method]
    histories: Mapping[str, tuple[str, pd.DataFrame]]
    labelled_cases: Mapping[str, int]
    pseudo_labels: pd.DataFrame | None = None

    @property
    def first(self) -> dict[str, pd.DataFrame]:
        """Method → the history of its first training that has one."""
        found: dict[str, pd.DataFrame] = {}
        for method, history in self.histories.values():
            found.setdefault(method, history)
        return found


@dataclass(frozen=True)
class Existence:
    """What is known of existence scores; None for what the pipeline did not make.

    `scores` are those of all pooled patches, `check` what stage check_existence found, `metrics` those of the ROI-aware
    network, `structures` the ones that decide the existence of each ROI.
    """

    scores: pd.DataFrame | None
    check: ExistenceCheck | None
    metrics: Mapping[str, Any] | None
    structures: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Data:
    """All data sets of the config, and the cases.csv of each."""

    datasets: Sequence[Dataset]
    cases: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Evidence:
    """Everything that a report shows.

    `evaluation` has the scores of the test cases and `out_of_fold` those of cross-validation, None where there is none.
    Where there are no test cases, `evaluation` is that of cross-validation and `out_of_fold` None.
    """

    evaluation: Evaluation
    mistakes: Mistakes
    slices: Slices
    trainings: Trainings
    existence: Existence
    data: Data
    out_of_fold: Evaluation | None = None

    @property
    def results(self) -> Results:
        return self.evaluation.results

    @property
    def which_training(self) -> str:
        """A sentence for the caption of a figure that shows one training of each method; empty if there is one."""
        several = self.results.several_trainings
        return " Where a method has several trainings, the first is shown." if several else ""
