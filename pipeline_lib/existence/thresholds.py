"""Thresholds φ_h and φ_l that reach a wanted precision on the ROI-aware network's held-out cases.

Beyond the paper, whose two thresholds are the same for every ROI, and off by default (`wanted_precision` of a method).
Stage roi_aware writes, for each structure and each of a few precisions, the thresholds that reach it into metrics.json;
a training takes those of its ROIs from there, so that another precision trains no ROI-aware network anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.methods import WANTED_PRECISIONS, Method
from ..errors import UserError
from ..files import read_json
from .calibration import FEWEST, Line, calibration_lines
from .decisions import Thresholds

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]

NEVER_POSITIVE, NEVER_NEGATIVE = 1.0, 0.0
"""φ_h that no score exceeds and φ_l that none falls below: where a precision cannot be reached, ROIs stay ambiguous."""


def structure_thresholds(logits: Floats, present: Booleans) -> dict[str, dict[str, float | None]]:
    """φ_h and φ_l of one structure for each wanted precision, as scores; null where it is not reached.

    `logits` and `present` are those of N held-out patches. Nothing is chosen for a structure with too few patches that
    hold it, or too few that do not.
    """
    enough = min(present.sum(), (~present).sum()) >= FEWEST
    chosen: dict[str, dict[str, float | None]] = {}
    for wanted in WANTED_PRECISIONS:
        above = lowest_threshold(logits, present, wanted) if enough else None
        below = lowest_threshold(-logits, ~present, wanted) if enough else None
        chosen[f"{wanted:g}"] = {
            "positive_above": None if above is None else _sigmoid(above),
            "negative_below": None if below is None else _sigmoid(-below),
        }
    return chosen


def lowest_threshold(logits: Floats, right: Booleans, wanted: float) -> float | None:
    """The lowest logit such that the share of `right` among the patches above it is at least `wanted`; None if none is.

    One right and one wrong patch are added to the count (Laplace's rule of succession), so that a handful of patches
    proves nothing: 0.95 needs 18 right ones in a row. It is never below 0, a score of one half, so φ_l ≤ φ_h.
    """
    order = np.argsort(-logits, kind="stable")
    falling, count = logits[order].astype(np.float64), np.arange(1, len(logits) + 1)
    precision = (np.cumsum(right[order]) + 1) / (count + 2)
    ends_a_tie = np.append(falling[:-1] > falling[1:], True)
    good = np.flatnonzero((precision >= wanted) & ends_a_tie & (falling > 0))
    if len(good) == 0:
        return None
    last = good[-1]
    following = falling[last + 1] if last + 1 < len(falling) else 0.0
    return float((falling[last] + max(following, 0.0)) / 2)


def decision_thresholds(
    method: Method, structures: Sequence[Sequence[str]], metrics: Path | None, calibration: str
) -> Thresholds:
    """φ_h and φ_l of each ROI under `method`: its own two, or those chosen for its `wanted_precision`.

    `structures` has each ROI's, `metrics` is the ROI-aware network's metrics.json, `calibration` that of the scores. A
    ROI takes the strictest thresholds of its structures, because the highest of their scores is its score.
    """
    if method.positive_above is not None and method.negative_below is not None:
        return Thresholds.of([method.positive_above] * len(structures), [method.negative_below] * len(structures))
    if metrics is None:
        raise UserError("wanted_precision", "needs the ROI-aware network's metrics.json", "give it as input")
    content = read_json(metrics)
    available = tuple(dict.fromkeys(name for names in structures for name in names))
    lines = calibration_lines(content, calibration, available, metrics)
    above, below = {}, {}
    for name in available:
        chosen = _held(content, name, f"{method.wanted_precision:g}", metrics)
        above[name] = _calibrated(chosen["positive_above"], lines[name], NEVER_POSITIVE)
        below[name] = _calibrated(chosen["negative_below"], lines[name], NEVER_NEGATIVE)
    return Thresholds.of(
        [max(above[name] for name in names) for names in structures],
        [min(below[name] for name in names) for names in structures],
    )


def _held(content: Mapping[str, Any], structure: str, wanted: str, metrics: Path) -> dict[str, float | None]:
    try:
        return content["structures"][structure]["thresholds"][wanted]
    except KeyError as error:
        wrong = f"holds no thresholds of {structure} for a precision of {wanted}"
        raise UserError(str(metrics), wrong, "rerun the stage roi_aware") from error


def _calibrated(score: float | None, line: Line, unreached: float) -> float:
    """A threshold on the network's own score as one on the calibrated score."""
    if score is None:
        return unreached
    slope, offset = line
    return _sigmoid(slope * math.log(score / (1 - score)) + offset) if score < 1 else NEVER_POSITIVE


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
