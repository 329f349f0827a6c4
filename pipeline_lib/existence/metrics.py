"""How well the ROI-aware network knows its structures, on patches of cases that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from .calibration import UNCHANGED, Kind, Line, fit
from .thresholds import structure_thresholds

_BINS = 10

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]


def structure_metrics(structures: Sequence[str], logits: Floats, present: Booleans) -> dict[str, Any]:
    """What metrics.json holds, from `logits` and `present`, both N patches × S structures.

    Per structure: counts, AUROC, average precision, Brier score, calibration curve, fitted calibrations and the
    thresholds that reach a wanted precision. A
    structure that is in all patches or in none cannot be told apart from chance: its scores are null, with the
    reason. `calibration` at the top is fitted on all structures together, for those that have none of their own.
    """
    rows = {name: _one_structure(logits[:, column], present[:, column]) for column, name in enumerate(structures)}
    scored = [row for row in rows.values() if row["not_scored_because"] is None]
    return {
        "patches": len(logits),
        "mean": {
            measure: float(np.mean([row[measure] for row in scored])) if scored else None
            for measure in ("auroc", "average_precision", "brier")
        },
        "calibration": {
            kind: _as_row(fit(kind, logits.ravel(), present.ravel()) or UNCHANGED) for kind in get_args(Kind)
        },
        "structures": rows,
    }


def _one_structure(logits: Floats, present: Booleans) -> dict[str, Any]:
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    positives = int(present.sum())
    row: dict[str, Any] = {
        "positives": positives,
        "negatives": len(present) - positives,
        "not_scored_because": None,
        "auroc": None,
        "average_precision": None,
        "brier": None,
        "curve": _curve(probability, present),
        "calibration": {},
    }
    if positives in (0, len(present)):
        row["not_scored_because"] = "never present" if positives == 0 else "always present"
    else:
        row["auroc"] = float(roc_auc_score(present, logits))
        row["average_precision"] = float(average_precision_score(present, logits))
        row["brier"] = float(brier_score_loss(present, probability))
    for kind in get_args(Kind):
        fitted = fit(kind, logits, present)
        row["calibration"][kind] = None if fitted is None else _as_row(fitted)
    row["thresholds"] = structure_thresholds(logits, present)
    return row


def _curve(probability: Floats, present: Booleans) -> list[dict[str, float]]:
    """Calibration curve: in each tenth of the scores, the mean score and the share of patches with the structure."""
    tenth = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    return [
        {
            "patches": int((tenth == number).sum()),
            "mean_score": float(probability[tenth == number].mean()),
            "share_present": float(present[tenth == number].mean()),
        }
        for number in np.unique(tenth)
    ]


def _as_row(fitted: Line) -> dict[str, float]:
    slope, offset = fitted
    return {"slope": slope, "offset": offset}
