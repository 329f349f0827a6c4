"""How well the ROI-aware network recognises its structures, on patches of cases that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

_BINS = 10

Floats = NDArray[np.floating]
Booleans = NDArray[np.bool_]


def structure_metrics(structures: Sequence[str], logits: Floats, present: Booleans, known: Booleans) -> dict[str, Any]:
    """The content of metrics.json, from `logits`, `present` and whether that is `known`, N patches × S structures each.

    Per structure, over the patches in which it is known: counts, AUROC, average precision, Brier score and calibration
    curve. For a structure that is in all of these patches or in none, the scores are undefined: they are null, and
    `not_scored_because` says why.
    """
    rows = {
        name: _one_structure(logits[known[:, column], column], present[known[:, column], column])
        for column, name in enumerate(structures)
    }
    scored = [row for row in rows.values() if row["not_scored_because"] is None]
    return {
        "patches": len(logits),
        "mean": {
            measure: float(np.mean([row[measure] for row in scored])) if scored else None
            for measure in ("auroc", "average_precision", "brier")
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
    }
    if positives in (0, len(present)):
        why = "always present" if positives else "never present"
        row["not_scored_because"] = why if len(present) else "never labelled"
    else:
        row["auroc"] = float(roc_auc_score(present, logits))
        row["average_precision"] = float(average_precision_score(present, logits))
        row["brier"] = float(brier_score_loss(present, probability))
    return row


def _curve(probability: Floats, present: Booleans) -> list[dict[str, float]]:
    """Calibration curve: for each tenth of the scores, the mean score and the share of patches with the structure."""
    tenth = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    return [
        {
            "patches": int((tenth == number).sum()),
            "mean_score": float(probability[tenth == number].mean()),
            "share_present": float(present[tenth == number].mean()),
        }
        for number in np.unique(tenth)
    ]
