"""How often decisions about existence agree with each other, and how often they are correct."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Booleans = NDArray[np.bool_]

DECISIONS = ("positive", "negative", "ambiguous")


@dataclass(frozen=True, eq=False)
class Decided:
    """Whether each of N patches is taken to contain each of K ROIs, or to lack it (bool N K each), or neither."""

    positive: Booleans
    negative: Booleans

    @property
    def by_name(self) -> dict[str, Booleans]:
        return {
            "positive": self.positive,
            "negative": self.negative,
            "ambiguous": ~self.positive & ~self.negative,
        }


@dataclass(frozen=True, eq=False)
class Presence:
    """Whether each of N patches contains each of K ROIs, and whether that is known: bool N K each."""

    present: Booleans
    known: Booleans


def agreement(first: Decided, second: Decided, roi: int, patches: Booleans) -> dict[str, Any]:
    """How often two ways to score lead to the same decision about a ROI on the chosen `patches` (bool N).

    `agree` is their share; the column `positive_ambiguous` counts the patches that are positive by the first way and
    ambiguous by the second, and so on.
    """
    counts = {
        f"{one}_{other}": int((first.by_name[one][:, roi] & second.by_name[other][:, roi] & patches).sum())
        for one, other in product(DECISIONS, repeat=2)
    }
    same = sum(counts[f"{decision}_{decision}"] for decision in DECISIONS)
    return {"patches": int(patches.sum()), "agree": _share(same, patches.sum()), **counts}


def correctness(decided: Decided, truth: Presence, roi: int, organ: int | None, patches: Booleans) -> dict[str, Any]:
    """How many of the chosen `patches` (bool N) are decided about a ROI, and how many of these correctly.

    `recall` is the share of the patches with the ROI that are decided positive, `specificity` the share of the patches
    without it that are decided negative; a precision is the share of the positive (negative) decisions that are
    correct. `organ` is the ROI whose existence this one inherits: precision with regard to the organ judges the score
    by what it was trained for.
    """
    chosen = patches & truth.known[:, roi]
    present = truth.present[:, roi]
    row: dict[str, Any] = {"patches": int(chosen.sum()), "present": int((chosen & present).sum())}
    for decision, found, taken, correct in (
        ("positive", "recall", decided.positive[:, roi], present),
        ("negative", "specificity", decided.negative[:, roi], ~present),
    ):
        made = chosen & taken
        row |= {
            decision: int(made.sum()),
            f"{decision}_correct": int((made & correct).sum()),
            found: _share((made & correct).sum(), (chosen & correct).sum()),
            f"{decision}_precision": _share((made & correct).sum(), made.sum()),
            f"{decision}_organ_precision": float("nan"),
        }
        if organ is not None:
            judged = made & truth.known[:, organ]
            organ_correct = truth.present[:, organ] == (decision == "positive")
            row[f"{decision}_organ_precision"] = _share((judged & organ_correct).sum(), judged.sum())
    return row


def _share(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else float("nan")
