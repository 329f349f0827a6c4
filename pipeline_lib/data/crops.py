"""Which crop is the i-th sample of a training: a pure function, whatever asks, in whatever order.

Samples are numbered through the whole training: step s has samples s·batch_size … (s + 1)·batch_size − 1. An epoch is
one crop of every case in a freshly shuffled order, so batches run on across the end of an epoch; or, where data sets
are to have other shares, as many crops of cases that are drawn with replacement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config.method_settings import Sampling
from ..config.optimisation import Optimisation
from ..randomness import random_generator

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """A case to learn from: its volume's folder, which ROIs it labels (K), its pool (N × 3, start indices z, y, x).

    `scores` (N × K) are the existence scores of the pooled patches, None where nothing needs them. `scored_by` names
    what they were computed from, None where that is unknown.
    """

    dataset: str
    name: str
    folder: Path
    labelled: NDArray[np.bool_]
    pool: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None
    scored_by: str | None = None


@dataclass(frozen=True)
class Crop:
    """One sample's patch: the index of its case in the training's list, and of its position in the case's pool."""

    sample: int
    case: int
    position: int


@dataclass(frozen=True)
class CropPlan:
    """The crops of a whole training on `cases` cases with pools of `pool_size` positions.

    `shares` are the probabilities of the cases, summed up to each; without them every case comes once in an epoch.
    """

    cases: int
    pool_size: int
    epochs: int
    batch_size: int
    seed: int
    shares: tuple[float, ...] | None = None

    @classmethod
    def from_cases(
        cls,
        cases: tuple[TrainingCase, ...],
        optimisation: Optimisation,
        seed: int,
        sampling: Sampling = "uniform_case",
    ) -> CropPlan:
        # Every position that may be drawn is one of every case's pool.
        pool_size = min(len(case.pool) for case in cases)
        shares = None if sampling == "uniform_case" else _shares(cases, sampling)
        return cls(len(cases), pool_size, optimisation.epochs, optimisation.batch_size, seed, shares)

    @property
    def steps(self) -> int:
        return math.ceil(self.epochs * self.cases / self.batch_size)

    def crop(self, sample: int) -> Crop:
        """The crop of `sample`; keyed by (seed, epoch) the order of cases, by (seed, epoch, case) the position.

        With `shares`, case and position are keyed by (seed, sample): a case may come twice in an epoch.
        """
        if self.shares is not None:
            random = random_generator("drawn crop", self.seed, sample)
            case = min(int(np.searchsorted(self.shares, random.random(), side="right")), self.cases - 1)
            return Crop(sample, case, int(random.integers(self.pool_size)))
        epoch, turn = divmod(sample, self.cases)
        case = int(_case_order(self.seed, epoch, self.cases)[turn])
        position = random_generator("crop", self.seed, epoch, case).integers(self.pool_size)
        return Crop(sample, case, int(position))

    def samples(self, step: int, rank: int, world_size: int) -> range:
        """The samples of `step` for `rank` of `world_size`: consecutive, as many for each rank give or take one."""
        first = step * self.batch_size
        return range(
            first + self.batch_size * rank // world_size,
            first + self.batch_size * (rank + 1) // world_size,
        )

    def samples_from(self, step: int, rank: int, world_size: int) -> Iterator[int]:
        """All samples of `rank` from `step` to the end of the training."""
        for later_step in range(step, self.steps):
            yield from self.samples(later_step, rank, world_size)


def _shares(cases: tuple[TrainingCase, ...], sampling: Sampling) -> tuple[float, ...]:
    """Sums of the cases' probabilities: 1/n for a data set of n cases, or 1/√n, divided by the sum of all."""
    sizes = Counter(case.dataset for case in cases)
    power = 1.0 if sampling == "uniform_dataset" else 0.5
    summed = np.cumsum([sizes[case.dataset] ** -power for case in cases])
    return tuple((summed / summed[-1]).tolist())


@lru_cache(maxsize=4)
def _case_order(seed: int, epoch: int, cases: int) -> NDArray[np.int64]:
    return random_generator("case order", seed, epoch).permutation(cases)
