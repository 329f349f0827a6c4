"""Uncertainty of a mean and of a difference between methods: t intervals over cases and trainings, Holm's correction.

Scores come as a matrix with a row per case and a column per training (seed) of one method. Both are samples: of the
patients that a method may meet, and of the trainings that it may have. The model is that of a two-way table with
random effects, score = mean + case + training + residual, with n cases and s trainings. A half-width comes from each
side, and the two are added in quadrature (Howe, JASA 69, 1974, 789–794; as MOVER: Zou and Donner, Statistics in
Medicine 27, 2008, 1693–1702):

    h² = t²(n − 1) · var(case means) / n + t²(s − 1) · var(training means) / s

where t(d) is the quantile of Student's t with d degrees of freedom. The residual is part of both variances and counts
twice, so the interval errs on the wide side. p is the level at which the interval ends at zero, hence p < 0.05 exactly
where the 95 % interval leaves out zero. docs/statistics.md has simulations.

A single training says nothing about the second term. The interval is then over cases alone, and there is no p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

CONFIDENCE = 0.95
FEWEST_CASES = 6
"""Cases needed for an interval or a test."""
FEWEST_CASES_IN_AVERAGE = 2
"""Cases that each ROI of an average needs besides, since one case shows nothing of how much cases differ."""

ONE_TRAINING = "one training each: differences between trainings are not in this interval"
ONE_ENSEMBLE = "an ensemble is one network: differences between trainings are not in this interval"
CASES_ALONE = (ONE_TRAINING, ONE_ENSEMBLE)
"""What is said of intervals that are over cases alone, so that there is no test."""
TOO_FEW_CASES = "too few cases"


@dataclass(frozen=True)
class Summary:
    """Mean over cases and trainings, its interval, and the median case; NaN where nothing can be said."""

    cases: int
    trainings: int
    mean: float
    low: float
    high: float
    median: float


@dataclass(frozen=True)
class Difference:
    """Difference between means over cases and trainings, its interval, and p (two-sided, not corrected).

    Interval and p are NaN where there are too few cases, p also with one training each.
    """

    cases: int
    trainings: int
    mean: float
    low: float
    high: float
    p: float

    @property
    def note(self) -> str:
        """What the interval leaves out, or why there is none; empty for an interval over cases and trainings."""
        if math.isnan(self.low):
            return TOO_FEW_CASES
        return ONE_TRAINING if self.trainings == 1 else ""


def summarise(scores: np.ndarray, largest: float = math.inf) -> Summary:
    """Summarise `scores` (cases × trainings, NaN where a score is not defined), which lie between 0 and `largest`.

    As in a table of several trainings, the mean is over trainings of each training's mean over its scored cases. The
    interval is cut to the range that scores can have.
    """
    defined = ~np.isnan(scores)
    scores = scores[defined.any(axis=1)][:, defined.any(axis=0)]
    if not scores.size:
        return Summary(0, 0, math.nan, math.nan, math.nan, math.nan)
    found = _estimate(_linearised(scores[None]), [len(scores)])
    low, high = np.clip(found.interval(), 0, largest) if found.cases >= FEWEST_CASES else (math.nan, math.nan)
    median = float(np.median(np.nanmean(scores, axis=1)))
    return Summary(found.cases, found.trainings, found.mean, float(low), float(high), median)


def summarise_average(scores: np.ndarray, largest: float = math.inf) -> Summary:
    """Summarise the average over ROIs of `scores` (ROIs × cases × trainings), which lie between 0 and `largest`.

    Its interval is that of `compare_average` against a method whose scores are all 0. There is no median: cases differ
    in their ROIs.
    """
    average = compare_average(np.where(np.isnan(scores), math.nan, 0.0), scores)
    if not average.cases:
        return Summary(0, 0, math.nan, math.nan, math.nan, math.nan)
    low, high = np.clip([average.low, average.high], 0, largest)
    return Summary(average.cases, average.trainings, average.mean, float(low), float(high), math.nan)


def compare(first: np.ndarray, second: np.ndarray, present: np.ndarray | None = None) -> Difference:
    """Compare two methods: `second` − `first`, each cases × trainings, with the same cases and seeds in the same order.

    The difference is that of the means that `summarise` gives. Its interval is for pairs: what a case or a seed does to
    both methods alike cancels. Trainings of one seed share the drawn crops and views, the initial weights of equal
    layers, and the cases that `labelled_cases` keeps.

    `present` (bool, one for each case) tells which cases contain the ROI: they alone make up `cases` and the degrees of
    freedom, since false alarms in others tell little. By default these are the cases that every training scores.
    """
    return compare_average(first[None], second[None], None if present is None else present[None])


def compare_average(first: np.ndarray, second: np.ndarray, present: np.ndarray | None = None) -> Difference:
    """Compare the averages over ROIs of two methods: `second` − `first`, each ROIs × cases × trainings.

    Pairs and `present` (ROIs × cases) are as in `compare`. As in a table, a ROI's mean comes first, and the average is
    that of the means of those ROIs that every training has a score for. A case's ROIs lie in one image and those of a
    training come from one network, so each is one unit with all its ROIs.
    """
    both = np.concatenate([first, second], axis=2)
    present = ~np.isnan(both).any(axis=2) if present is None else present & ~np.isnan(both).all(axis=2)
    rois = ~np.isnan(both).all(axis=1).any(axis=1)
    cases = ~np.isnan(both[rois]).all(axis=(0, 2))
    first, second, present = (each[rois][:, cases] for each in (first, second, present))
    if not first.size:
        return Difference(0, 0, math.nan, math.nan, math.nan, math.nan)
    counts = present.sum(axis=1)
    found = _estimate(_linearised(second) - _linearised(first), counts)
    with_a_roi = int(present.any(axis=0).sum())
    if with_a_roi < FEWEST_CASES or counts.min() < FEWEST_CASES_IN_AVERAGE:
        return Difference(with_a_roi, found.trainings, found.mean, math.nan, math.nan, math.nan)
    return Difference(with_a_roi, found.trainings, found.mean, *found.interval(), found.p())


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction; NaN (no test) stays NaN and counts as no test."""
    corrected = np.full(len(p_values), math.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * float(p_values[place])))
        corrected[place] = highest
    return corrected


@dataclass(frozen=True)
class _Estimate:
    """A mean, and the squares of its standard errors over cases and over trainings (0 for a single one)."""

    mean: float
    cases: int
    trainings: int
    over_cases: float
    over_trainings: float
    cases_freedom: float
    """Degrees of freedom of `over_cases`; those of `over_trainings` are the trainings less one."""

    def interval(self) -> tuple[float, float]:
        half = self._half_width(1 - CONFIDENCE)
        return self.mean - half, self.mean + half

    def p(self) -> float:
        """The level at which the interval ends at zero; NaN for a single training."""
        if self.trainings == 1:
            return math.nan
        if self.mean == 0:
            return 1.0
        # Each side alone would give a smaller p than both together.
        lowest = max(
            _p_value(self.mean, self.over_cases, self.cases_freedom),
            _p_value(self.mean, self.over_trainings, self.trainings - 1),
        )
        if lowest == 0 or not (self.over_cases and self.over_trainings):
            return lowest
        return float(brentq(lambda level: self._half_width(level) - abs(self.mean), lowest / 2, 1))

    def _half_width(self, level: float) -> float:
        square = _quantile(self.cases_freedom, level) ** 2 * self.over_cases
        if self.trainings > 1:
            square += _quantile(self.trainings - 1, level) ** 2 * self.over_trainings
        return math.sqrt(square)


def _estimate(tables: np.ndarray, counts: Sequence[int]) -> _Estimate:
    """Estimate the mean of `tables` without gaps (ROIs × cases × trainings); `counts` has each ROI's cases."""
    table = tables.mean(axis=0)
    cases, trainings = table.shape
    return _Estimate(
        mean=float(table.mean()),
        cases=cases,
        trainings=trainings,
        over_cases=_squared_error(table.mean(axis=1)),
        over_trainings=_squared_error(table.mean(axis=0)),
        cases_freedom=_cases_freedom(tables, counts),
    )


def _linearised(scores: np.ndarray) -> np.ndarray:
    """Tables without gaps (ROIs × cases × trainings) in which a training has the mean of its `scores`.

    The mean over the m of n cases that have a score is a ratio of two sums. In its first-order expansion (Cochran,
    Sampling Techniques, 1977, 6.3) a case without a score lies at the mean, and the deviation of another counts n / m
    times. √(m / (m − 1) · (n − 1) / n) makes up for the mean, which is fitted to m cases instead of n. Scores without
    gaps stay as they are.
    """
    defined = ~np.isnan(scores)
    count, cases = defined.sum(axis=1, keepdims=True), scores.shape[1]
    means = np.nanmean(scores, axis=1, keepdims=True)
    weight = cases / count * np.sqrt(count / np.maximum(count - 1, 1) * (cases - 1) / cases)
    return means + np.where(defined, (scores - means) * weight, 0)


def _cases_freedom(tables: np.ndarray, counts: Sequence[int]) -> float:
    """Degrees of freedom of an average over ROIs, some of which few of the cases have.

    Satterthwaite's (Biometrics Bulletin 2, 1946, 110–114) for a sum of the ROIs' squared errors, at most those of all
    cases: with one ROI they are its cases less one.
    """
    most = tables.shape[1] - 1
    errors = [_squared_error(roi.mean(axis=1)) for roi in tables]
    parts = sum(error**2 / max(count - 1, 1) for error, count in zip(errors, counts, strict=True))
    return min(most, sum(errors) ** 2 / parts) if parts else most


def _squared_error(means: np.ndarray) -> float:
    return float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0


def _quantile(freedom: float, level: float) -> float:
    """Two-sided quantile of Student's t."""
    return -float(stdtrit(freedom, level / 2))


def _p_value(mean: float, squared_error: float, freedom: float) -> float:
    """Two-sided p of the t test of a mean with one source of variation."""
    return 2 * float(stdtr(freedom, -abs(mean) / math.sqrt(squared_error))) if squared_error else 0.0
