"""How sure a mean and a difference between methods are: bootstrap over cases, Wilcoxon's test, Holm's correction.

Scores come as a matrix with a row per case and a column per training (seed) of one method. Cases are drawn anew, and
seeds with them, so that both levels count where there are several; with one seed it is the plain bootstrap over cases.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..randomness import random_generator

DRAWS = 2000
CONFIDENCE = 0.95
FEWEST_PAIRS = 2
"""Cases needed before an interval or a test says anything."""


@dataclass(frozen=True)
class Summary:
    """Mean over cases (and seeds), its interval, and the median case; NaN where nothing can be said."""

    cases: int
    mean: float
    low: float
    high: float
    median: float


@dataclass(frozen=True)
class Difference:
    """Mean paired difference over cases, its interval, and Wilcoxon's signed-rank p (uncorrected)."""

    cases: int
    mean: float
    low: float
    high: float
    p: float


def summarise(scores: np.ndarray, *key: str | int) -> Summary:
    """Summarise `scores` (cases × seeds, NaN where a score is not defined); `key` seeds the bootstrap."""
    scores = scores[~np.isnan(scores).all(axis=1)]
    if not len(scores):
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    low, high = _interval(scores, "summary", *key)
    per_case = np.nanmean(scores, axis=1)
    return Summary(len(scores), _mean(scores), low, high, float(np.median(per_case)))


def compare(first: np.ndarray, second: np.ndarray, *key: str | int) -> Difference:
    """Compare two methods on the same cases: `second` − `first`, each cases × seeds, rows in the same order.

    Cases that either method has no score for are left out. Differences are taken between means over seeds.
    """
    return compare_average(first[None], second[None], "difference", *key)


def compare_average(first: np.ndarray, second: np.ndarray, *key: str | int) -> Difference:
    """Compare the averages over ROIs of two methods: `second` − `first`, each ROIs × cases × seeds, cases in one order.

    As in a table, a ROI's mean comes first and the average is that of the ROIs' means; a ROI counts in a case where
    both methods have a score. A case is drawn with all its ROIs, because they lie in one image; the seeds of each
    method are drawn on their own. The test is on each case's difference averaged over its ROIs.
    """
    undefined = np.isnan(first).all(axis=2) | np.isnan(second).all(axis=2)
    first, second = (np.where(undefined[:, :, None], math.nan, scores) for scores in (first, second))
    used, scored = ~undefined.all(axis=0), ~undefined.all(axis=1)
    first, second = first[scored][:, used], second[scored][:, used]
    if not first.size:
        return Difference(0, math.nan, math.nan, math.nan, math.nan)
    with _quiet_empty_means():
        differences = np.nanmean(second, axis=2) - np.nanmean(first, axis=2)
        mean = float(np.nanmean(differences, axis=1).mean())
        low, high = _paired_interval(first, second, *key)
        p = _wilcoxon(np.nanmean(differences, axis=0))
    return Difference(differences.shape[1], mean, low, high, p)


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


def _wilcoxon(differences: np.ndarray) -> float:
    if len(differences) < FEWEST_PAIRS:
        return math.nan
    if not differences.any():
        return 1.0
    # Zero differences are split between both signs (Pratt), or many absent tumours would inflate the evidence.
    return float(stats.wilcoxon(differences, zero_method="zsplit").pvalue)


def _mean(scores: np.ndarray) -> float:
    """Mean over seeds of the mean over cases, as a table of several trainings has it."""
    return float(np.nanmean(np.nanmean(scores, axis=0)))


def _interval(scores: np.ndarray, *key: str | int) -> tuple[float, float]:
    if len(scores) < FEWEST_PAIRS:
        return math.nan, math.nan
    generator = random_generator("bootstrap", *key)
    cases = generator.integers(len(scores), size=(DRAWS, len(scores)))
    return _quantiles(_drawn_means(scores[None], cases, generator)[0])


def _paired_interval(first: np.ndarray, second: np.ndarray, *key: str | int) -> tuple[float, float]:
    """Interval of the difference of averages over ROIs; both methods and all ROIs have the same cases in a draw."""
    count = first.shape[1]
    if count < FEWEST_PAIRS:
        return math.nan, math.nan
    generator = random_generator("bootstrap", *key)
    cases = generator.integers(count, size=(DRAWS, count))
    gains = _drawn_means(second, cases, generator) - _drawn_means(first, cases, generator)
    return _quantiles(np.nanmean(gains, axis=0))


def _drawn_means(scores: np.ndarray, cases: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means of `scores` (ROIs × cases × seeds), ROIs × draws.

    Each draw has the cases given (draws × cases) and as many seeds as there are, drawn with replacement, for all ROIs.
    """
    seeds = generator.integers(scores.shape[2], size=(len(cases), scores.shape[2]))
    chosen = (roi[cases[:, :, None], seeds[:, None, :]] for roi in scores)
    return np.stack([np.nanmean(each.reshape(len(cases), -1), axis=1) for each in chosen])


@contextmanager
def _quiet_empty_means() -> Iterator[None]:
    """Means of nothing are NaN here on purpose: a ROI may be absent from a case, or from all cases of a draw."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice", RuntimeWarning)
        yield


def _quantiles(draws: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)
