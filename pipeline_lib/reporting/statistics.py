"""How sure the Dice table is: intervals of every mean, paired differences between methods, and both in one table."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd

from ..config.rois import is_lesion
from .intervals import Difference, compare, compare_average, holm, summarise
from .results import Results
from .tables import AVERAGE, MEASURED


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

    Holm's correction runs over the ROIs of one pair. A last row has the pair's average over ROIs, which is one question
    and needs no correction.
    """
    rows = []
    for first, second in combinations(results.methods, 2):
        scores = results.pair(first, second)
        pair = [
            _difference_row(first, second, roi, compare(*of_roi, first, second, roi))
            for roi, *of_roi in zip(results.rois, *scores, strict=True)
        ]
        corrected = holm(np.array([row["p_wilcoxon"] for row in pair]))
        rows += [row | {"p_holm": p} for row, p in zip(pair, corrected, strict=True)]
        average = compare_average(*scores, first, second, AVERAGE)
        rows.append(_difference_row(first, second, AVERAGE, average) | {"p_holm": math.nan})
    columns = ["first", "second", "roi", "cases", "difference", "low", "high", "p_wilcoxon", "p_holm"]
    return pd.DataFrame(rows, columns=columns)


def comparison_table(table: pd.DataFrame, differences: pd.DataFrame, results: Results) -> pd.DataFrame:
    """A whole comparison in one table: per ROI and method the mean Dice in percent, and against the first method.

    `table` is the Dice table, `differences` as above. Columns: roi, method, dice, and for all but the first method the
    paired difference in percentage points with its 95 % interval, Wilcoxon's p and Holm's over the ROIs.
    """
    measured = table[table["source"] == MEASURED].set_index("method")
    reference = results.methods[0]
    against = differences[differences["first"] == reference].set_index(["roi", "second"])
    rows: list[dict[str, object]] = []
    for roi in (*results.rois, AVERAGE):
        for method in results.methods:
            row: dict[str, object] = {"roi": roi, "method": method, "dice": measured.at[method, roi]}
            if method != reference:
                found = against.loc[(roi, method)]
                row |= {f"{name}_to_{reference}": 100 * found[name] for name in ("difference", "low", "high")}
                row |= {name: found[name] for name in ("p_wilcoxon", "p_holm")}
            rows.append(row)
    return pd.DataFrame(rows)


def _difference_row(first: str, second: str, roi: str, found: Difference) -> dict[str, object]:
    return {
        "first": first,
        "second": second,
        "roi": roi,
        "cases": found.cases,
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p_wilcoxon": found.p,
    }


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
