"""What is trained and what predicts: single trainings, and averages of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .folds import all_folds
from .section import Section

if TYPE_CHECKING:
    from .schema import Config

ENSEMBLE_SEED = -1
"""Stands for the seed where a table has one and the scores are an ensemble's."""

_NAME = r"(?P<method>.+)-(?:seed(?P<seed>\d+)(?:-fold(?P<fold>\d+)|(?P<average>-folds))?|ensemble)"


class Run(Section):
    """A training, or an average of several.

    METHOD-seedSEED and METHOD-seedSEED-foldFOLD are trainings, the latter without the cases of its fold.
    METHOD-seedSEED-folds (`average`) averages all folds of a seed, METHOD-ensemble (`seed` None) all trainings of a
    method. The seed is in the name of every training, so that another entry of `seeds` renames, and so retrains, none.
    """

    name: str
    method: str
    seed: int | None
    fold: int | None = None
    average: bool = False

    @classmethod
    def of(cls, method: str, seed: int, fold: int | None = None, average: bool = False) -> Run:
        part = "-folds" if average else "" if fold is None else f"-fold{fold}"
        return cls(name=f"{method}-seed{seed}{part}", method=method, seed=seed, fold=fold, average=average)

    @classmethod
    def of_ensemble(cls, method: str) -> Run:
        return cls(name=f"{method}-ensemble", method=method, seed=None)

    @property
    def row(self) -> str:
        """What the report calls its method; no method of a config has a blank in its name."""
        return f"{self.method} ensemble" if self.seed is None else self.method


def read_run(name: str) -> Run | None:
    """The run of this name; None if it is not the name of one."""
    parts = re.fullmatch(_NAME, name)
    if parts is None:
        return None
    if parts["seed"] is None:
        return Run.of_ensemble(parts["method"])
    fold = None if parts["fold"] is None else int(parts["fold"])
    return Run.of(parts["method"], int(parts["seed"]), fold, average=parts["average"] is not None)


def members(config: Config, run: Run) -> tuple[Run, ...]:
    """The trainings whose average a run predicts with: itself, if it is one."""
    seeds = config.seeds if run.seed is None else (run.seed,)
    if run.fold is not None or not (run.average or run.seed is None):
        return (run,)
    return tuple(Run.of(run.method, seed, fold) for seed in seeds for fold in all_folds(config))
