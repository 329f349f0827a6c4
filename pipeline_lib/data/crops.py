"""Which crop is the i-th sample of a training: a pure function, whatever asks, in whatever order.

Samples are numbered through the whole training: step s has samples s·batch_size … (s + 1)·batch_size − 1. An epoch is
one crop of every case in a freshly shuffled order, so batches run on across the end of an epoch. Where the cases of a
data set label different ROIs, those that label a rare one are drawn more often (`case_weights`). Where data sets are to
have other shares, an epoch is as many crops of cases that are drawn with replacement. Cases without any label may have
a limited share of an epoch: where there are more, they take turns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
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

    `weights` say how often each case is drawn in an epoch, on average; their sum is `cases`. None: each once. `shares`
    are the probabilities of the cases, summed up to each, for cases drawn with replacement; they hold the weights.

    Where cases without labels are limited, `unlabelled` are their indices, and an epoch has only
    `unlabelled_per_epoch` of them; `weights` are then those of the other cases. With `shares`, which hold their
    probabilities, they only make an epoch shorter.
    """

    cases: int
    pool_size: int
    epochs: int
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None
    shares: tuple[float, ...] | None = None
    unlabelled: tuple[int, ...] = ()
    unlabelled_per_epoch: int = 0

    @classmethod
    def from_cases(
        cls,
        cases: tuple[TrainingCase, ...],
        optimisation: Optimisation,
        seed: int,
        sampling: Sampling = "uniform_case",
        unlabelled_share: float = 1.0,
    ) -> CropPlan:
        """The plan for `cases`, of which those without any label have at most `unlabelled_share` of an epoch."""
        # Every position that may be drawn is one of every case's pool.
        pool_size = min(len(case.pool) for case in cases)
        unlabelled = tuple(place for place, case in enumerate(cases) if not case.labelled.any())
        per_epoch = unlabelled_within_share(len(cases) - len(unlabelled), len(unlabelled), unlabelled_share)
        is_limited = per_epoch < len(unlabelled)
        shares = None
        if sampling != "uniform_case":
            weights = case_weights(cases)
            shares = _shares(cases, sampling, weights, unlabelled_share)
        else:
            weights = case_weights([case for case in cases if case.labelled.any()] if is_limited else cases)
        return cls(
            len(cases),
            pool_size,
            optimisation.epochs,
            optimisation.batch_size,
            seed,
            weights,
            shares,
            unlabelled if is_limited else (),
            per_epoch if is_limited else 0,
        )

    @property
    def epoch_size(self) -> int:
        """Crops in an epoch."""
        return self.cases - len(self.unlabelled) + self.unlabelled_per_epoch

    @property
    def steps(self) -> int:
        return math.ceil(self.epochs * self.epoch_size / self.batch_size)

    def crop(self, sample: int) -> Crop:
        """The crop of `sample`; keyed by (seed, epoch) the order of cases, by (seed, epoch, case) the position.

        With `weights` the position, with `shares` both are keyed by (seed, sample): a case may come twice in an epoch.
        """
        if self.shares is not None:
            random = random_generator("drawn crop", self.seed, sample)
            case = min(int(np.searchsorted(self.shares, random.random(), side="right")), self.cases - 1)
            return Crop(sample, case, int(random.integers(self.pool_size)))
        epoch, turn = divmod(sample, self.epoch_size)
        limited = (self.unlabelled, self.unlabelled_per_epoch)
        case = int(_case_order(self.seed, epoch, self.cases, self.weights, *limited)[turn])
        # Keyed by epoch and case, a case that is drawn several times in an epoch would give the same patch each time.
        key = (epoch, case) if self.weights is None else (sample,)
        position = random_generator("crop", self.seed, *key).integers(self.pool_size)
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


def case_weights(cases: Sequence[TrainingCase]) -> tuple[float, ...] | None:
    """How often each case is drawn in an epoch, on average; None if the cases of each data set label the same ROIs.

    Within a data set a case weighs √(t / f) of the ROI that it labels for which that is most: f is the share of cases
    that label the ROI, t the largest such share. That is repeat factor sampling (Gupta et al.: "LVIS", CVPR 2019) with
    t relative to the data set; weights are scaled so that each data set keeps its share of the training. A case that
    labels nothing weighs as much as one that labels the commonest ROI.
    """
    weights = np.ones(len(cases))
    names = np.array([case.dataset for case in cases])
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        labelled = np.stack([cases[index].labelled for index in own])
        counts = labelled.sum(axis=0)
        if not counts.any():
            continue
        factors = np.sqrt(counts.max() / np.maximum(counts, 1))
        raw = np.where(labelled, factors, 1.0).max(axis=1)
        weights[own] = raw * (len(own) / raw.sum())
    return None if np.allclose(weights, 1) else tuple(weights.tolist())


def unlabelled_within_share(labelled: int, unlabelled: int, share: float) -> int:
    """How many cases without labels an epoch has beside its labelled ones, so that they are at most `share` of it.

    All of them where there is room, and where there is nothing else.
    """
    if share == 1 or not labelled:
        return unlabelled
    # 1e-9 absorbs rounding: 20 cases leave room for 180 at a share of 0.9.
    return min(unlabelled, math.floor(labelled * share / (1 - share) + 1e-9))


def _shares(
    cases: tuple[TrainingCase, ...], sampling: Sampling, weights: tuple[float, ...] | None, unlabelled_share: float
) -> tuple[float, ...]:
    """Sums of the cases' probabilities: weight/n for a data set of n cases, or weight/√n, divided by the sum of all.

    Where cases without labels would have more than `unlabelled_share`, theirs are lowered to that.
    """
    sizes = Counter(case.dataset for case in cases)
    power = 1.0 if sampling == "uniform_dataset" else 0.5
    each = np.array([sizes[case.dataset] ** -power for case in cases]) * (1 if weights is None else np.array(weights))
    labelled = np.array([case.labelled.any() for case in cases])
    if labelled.any() and each[~labelled].sum() > unlabelled_share * each.sum():
        each[labelled] *= (1 - unlabelled_share) / each[labelled].sum()
        each[~labelled] *= unlabelled_share / each[~labelled].sum()
    summed = np.cumsum(each)
    return tuple((summed / summed[-1]).tolist())


@lru_cache(maxsize=4)
def _case_order(
    seed: int,
    epoch: int,
    cases: int,
    weights: tuple[float, ...] | None,
    unlabelled: tuple[int, ...],
    unlabelled_per_epoch: int,
) -> NDArray[np.int64]:
    """The case of each sample of an epoch: a case of weight w is there ⌊w⌋ or ⌈w⌉ times.

    The cases `unlabelled` take turns: an epoch has the next `unlabelled_per_epoch` of them, once each. They have no
    weight. Their order is fixed by the seed.
    """
    random = random_generator("case order", seed, epoch)
    if not unlabelled:
        return _weighted_order(random, cases, weights)
    others = np.setdiff1d(np.arange(cases), unlabelled)
    queue = random_generator("turns", seed).permutation(unlabelled)
    places = (epoch * unlabelled_per_epoch + np.arange(unlabelled_per_epoch)) % len(queue)
    return random.permutation(np.concatenate([others[_weighted_order(random, len(others), weights)], queue[places]]))


def _weighted_order(random: np.random.Generator, cases: int, weights: tuple[float, ...] | None) -> NDArray[np.int64]:
    order = random.permutation(cases)
    if weights is None:
        return order
    # Systematic sampling: marks at equal distances along the weights, which lie in a random order.
    ends = np.cumsum(np.array(weights)[order])
    marks = (np.arange(cases) + random.random()) * (ends[-1] / cases)
    return random.permutation(order[np.searchsorted(ends, marks, side="right").clip(max=cases - 1)])
