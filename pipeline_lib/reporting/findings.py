"""The main findings in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from .cells import difference_interval, p_cell, percent
from .intervals import CASES_ALONE, ONE_ENSEMBLE
from .results import method_label, roi_label
from .tables import AVERAGE, MEASURED

SIGNIFICANT = 0.05
"""A corrected p below this level is called significant."""


def findings(table: pd.DataFrame, differences: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """Which method is best on average, and which differences to the first method are significant, in sentences.

    `table` is the Dice table in per cent, `differences` is `statistics.difference_table`. Single trainings do
    not make a method better or worse: another training of the same method may differ as much.
    """
    measured = table[table["source"] == MEASURED].dropna(subset=AVERAGE)
    if measured.empty:
        return ["No case has a score."]
    ranked = measured.sort_values(AVERAGE, ascending=False, kind="stable")
    best = ranked.iloc[0]
    averages = measured.set_index("method")[AVERAGE]
    if len(measured) == 1:
        return [f"{method_label(best['method'])} has an average Dice of {best[AVERAGE]:.1f} %."]
    sentences = [f"{method_label(best['method'])} has the highest average Dice: {best[AVERAGE]:.1f} %."]
    for (first, second), pair in differences.groupby(["first", "second"], sort=False):
        if first != methods[0] or not {first, second} <= set(averages.index):
            continue
        sure = pair[pair["p_holm"] < SIGNIFICANT]
        better = [roi_label(roi) for roi in sure.loc[sure["difference"] > 0, "roi"]]
        worse = [roi_label(roi) for roi in sure.loc[sure["difference"] < 0, "roi"]]
        told = [f"better on {', '.join(better)}"] * bool(better) + [f"worse on {', '.join(worse)}"] * bool(worse)
        told = told or [_nothing_told(pair)]
        gain = float(averages[second] - averages[first]) / 100
        sentences.append(
            f"{method_label(second)} against {method_label(first)}: {percent(gain, signed=True)} percentage points on "
            f"average{_how_sure(gain, pair)}; {'; '.join(told)}."
        )
    return sentences


def _how_sure(gain: float, pair: pd.DataFrame) -> str:
    """Interval and p of the difference of averages, and that difference itself where it is not the `gain` stated.

    The table's averages have all ROIs that a method has a score for, pairs those that both methods have one for.
    """
    average = pair[pair["roi"] == AVERAGE].iloc[0]
    if math.isnan(average["low"]):
        return ""
    paired = percent(average["difference"], signed=True)
    own = "" if paired == percent(gain, signed=True) else f"{paired} over the ROIs that both have a score for, "
    found = f"{own}95 % interval {difference_interval(average)}"
    if average["note"] in CASES_ALONE:
        return f" ({found} over cases alone)"
    return f" ({found}, p {p_cell(average['p'])['sentence']})"


def _nothing_told(pair: pd.DataFrame) -> str:
    """Why no ROI is named: none differs, or there are too few trainings or cases to tell."""
    rois = pair[pair["roi"] != AVERAGE]
    if rois["note"].isin(CASES_ALONE).any():
        single = "an ensemble is one network" if (rois["note"] == ONE_ENSEMBLE).any() else "one training each"
        return f"{single}, which cannot tell a better or worse method from chance"
    if rois["p"].isna().all():
        return f"too few cases ({rois['cases'].max()} at most) to test single ROIs"
    return "no ROI significantly better or worse"
