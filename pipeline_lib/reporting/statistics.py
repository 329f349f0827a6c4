"""Uncertainty of the scores: intervals of all means, paired differences between methods, and both in one table."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pandas as pd

from ..config.rois import is_lesion
from ..scoring.dice import scores_absence
from ..scoring.scores import SCORES
from .intervals import ONE_ENSEMBLE, ONE_TRAINING, Difference, compare, compare_average, holm, summarise
from .results import Results
from .tables import AVERAGE, MEASURED


def summary_table(results: Results) -> pd.DataFrame:
    """Per method and ROI: cases, mean with its 95 % interval and median of every score of `SCORES`, and detection.

    `SCORE_mean` is over all cases that have the score, `SCORE_mean_present` over those of them that contain the ROI.
    `trainings` is the number of seeds with a Dice: with one, the intervals are over cases alone. Of `cases_known`,
    whose truth is known, `cases_with` contain the ROI and `cases_without` do not; in `false_alarms` of the latter it is
    predicted (mean over trainings).
    """
    rows = []
    for method in results.methods:
        for roi in results.rois:
            row: dict[str, object] = {"method": method, "roi": roi}
            for name, score in SCORES.items():
                table = results.matrix(method, roi, name)
                found = summarise(table.to_numpy(), score.largest)
                present = table[table.index.isin(results.holding(roi))]
                if name == "dice":
                    row["trainings"] = found.trainings
                row |= {
                    f"{name}_cases": found.cases,
                    f"{name}_mean": found.mean,
                    f"{name}_low": found.low,
                    f"{name}_high": found.high,
                    f"{name}_median": found.median,
                    f"{name}_mean_present": summarise(present.to_numpy(), score.largest).mean,
                }
            row["cases_with"], row["cases_known"] = results.presence(roi)
            row["cases_without"], row["false_alarms"] = results.false_alarms(method, roi)
            rows.append(row | _detection(results, method, roi))
    return pd.DataFrame(rows)


def difference_table(results: Results, convention: str) -> pd.DataFrame:
    """Per pair of methods and ROI: difference of the mean Dice (second − first), its interval, p and Holm's p.

    Where the convention leaves out cases in which truth and prediction are both empty, `cases` are those with the ROI.
    The ROI is predicted in `false_alarms_first` and `false_alarms_second` of the `cases_without` it (means over
    trainings). `note` says what an interval leaves out, or why there is none. Holm's correction is over the ROIs of one
    pair. The last row of a pair has the average over ROIs, which is a single question and needs no correction.
    """
    present = results.present() | scores_absence(convention)
    rows: list[dict[str, object]] = []
    for first, second in combinations(results.methods, 2):
        scores = results.pair(first, second)
        pair = [
            _difference_row(first, second, roi, compare(*of_roi, held)) | _false_alarms(results, first, second, roi)
            for roi, *of_roi, held in zip(results.rois, *scores, present, strict=True)
        ]
        corrected = holm(np.array([row["p"] for row in pair]))
        pair = [row | {"p_holm": p} for row, p in zip(pair, corrected, strict=True)]
        pair.append(_difference_row(first, second, AVERAGE, compare_average(*scores, present)))
        has_ensemble = not results.ensembles.isdisjoint({first, second})
        rows += [row | {"note": ONE_ENSEMBLE} if has_ensemble and row["note"] == ONE_TRAINING else row for row in pair]
    return pd.DataFrame(rows, columns=_DIFFERENCE_COLUMNS)


_DIFFERENCE_COLUMNS = [
    *("first", "second", "roi", "cases", "trainings", "difference", "low", "high", "p", "p_holm", "note"),
    *("cases_without", "false_alarms_first", "false_alarms_second"),
]


def comparison_table(table: pd.DataFrame, differences: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The comparison in one table: per ROI and method the mean Dice in %, and the difference to the first method.

    `table` is the Dice table, `differences` as above. Columns: roi, method, dice, and for all but the first method the
    paired difference in percentage points with its 95 % interval, p, Holm's p over the ROIs, and a note on what the
    interval leaves out. Also, per ROI and method, the cases without the ROI and the false alarms in them.
    """
    measured = table[table["source"] == MEASURED].set_index("method")
    reference = results.methods[0]
    against = differences[differences["first"] == reference].set_index(["roi", "second"])
    rows: list[dict[str, object]] = []
    for roi in (*results.rois, AVERAGE):
        for method in results.methods:
            row: dict[str, object] = {"roi": roi, "method": method, "dice": measured.at[method, roi]}
            if roi != AVERAGE:
                row["cases_without"], row["false_alarms"] = results.false_alarms(method, roi)
            if method != reference:
                found = against.loc[(roi, method)]
                row |= {f"{name}_to_{reference}": 100 * found[name] for name in ("difference", "low", "high")}
                row |= {name: found[name] for name in ("p", "p_holm", "note")}
            rows.append(row)
    return pd.DataFrame(rows)


def _difference_row(first: str, second: str, roi: str, found: Difference) -> dict[str, object]:
    return {
        "first": first,
        "second": second,
        "roi": roi,
        "cases": found.cases,
        "trainings": found.trainings,
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "note": found.note,
    }


def _false_alarms(results: Results, first: str, second: str, roi: str) -> dict[str, float]:
    (cases, of_first), (_, of_second) = (results.false_alarms(method, roi) for method in (first, second))
    return {"cases_without": cases, "false_alarms_first": of_first, "false_alarms_second": of_second}


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
