"""How sure the Dice table is: intervals of every mean, and paired differences between methods."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd

from ..scoring.intervals import compare, holm, summarise
from ..scoring.lesions import is_lesion
from .results import Results


def summary_table(results: Results) -> pd.DataFrame:
    """Per method and ROI: cases, mean with its 95 % interval and median of Dice, surface Dice, HD95, and detection."""
    rows = []
    for method in results.methods:
        for roi in results.rois:
            row: dict[str, object] = {"method": method, "roi": roi}
            for column in ("dice", "surface_dice", "hd95_mm"):
                found = summarise(results.matrix(method, roi, column).to_numpy(), method, roi, column)
                row |= {
                    f"{column}_cases": found.cases,
                    f"{column}_mean": found.mean,
                    f"{column}_low": found.low,
                    f"{column}_high": found.high,
                    f"{column}_median": found.median,
                }
            rows.append(row | _detection(results, method, roi))
    return pd.DataFrame(rows)


def difference_table(results: Results) -> pd.DataFrame:
    """Per pair of methods and ROI: mean paired Dice difference (second − first), interval, Wilcoxon p, Holm's p.

    Holm's correction runs over the ROIs of one pair.
    """
    rows = []
    for first, second in combinations(results.methods, 2):
        pair = []
        for roi in results.rois:
            found = compare(*results.pair(first, second, roi), first, second, roi)
            pair.append(
                {
                    "first": first,
                    "second": second,
                    "roi": roi,
                    "cases": found.cases,
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "p_wilcoxon": found.p,
                }
            )
        corrected = holm(np.array([row["p_wilcoxon"] for row in pair]))
        rows += [row | {"p_holm": p} for row, p in zip(pair, corrected, strict=True)]
    columns = ["first", "second", "roi", "cases", "difference", "low", "high", "p_wilcoxon", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


def _detection(results: Results, method: str, roi: str) -> dict[str, float]:
    """Lesions found of all lesions, and false findings per case, over all cases and seeds."""
    if not is_lesion(roi):
        return {"lesions": math.nan, "lesion_sensitivity": math.nan, "false_per_case": math.nan}
    rows = results.scores[(results.scores["method"] == method) & (results.scores["roi"] == roi)]
    lesions = rows["lesions"].sum()
    return {
        "lesions": lesions / max(rows["seed"].nunique(), 1),
        "lesion_sensitivity": rows["lesions_found"].sum() / lesions if lesions else math.nan,
        "false_per_case": rows["lesions_false"].mean(),
    }
