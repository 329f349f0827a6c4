"""The page's tables, row by row, with every number as it is shown."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ..scoring.scores import SCORES, Score
from .cells import cell, difference_interval, interval, p_cell, percent
from .evidence import Evaluation
from .existence_check import ExistenceCheck, existence_check_rows
from .findings import SIGNIFICANT
from .intervals import CASES_ALONE, TOO_FEW_CASES
from .results import Results, method_label, roi_label
from .style import method_colours
from .tables import AVERAGE, MEASURED, best_cells

_FALSE_ALARMS = ("false_alarms_first", "false_alarms_second")
_DIFFERENT = 1e-6
"""Difference of two means that is more than rounding."""


def dice_rows(evaluation: Evaluation) -> dict[str, Any]:
    """The Dice table, the average first: on a narrow screen the last columns have to be scrolled to.

    A cell has a second number, `present`, where the mean over the cases that contain the ROI is another one.
    """
    table, results = evaluation.dice, evaluation.results
    bold, colours = best_cells(table), method_colours(results.methods)
    columns = [AVERAGE, *results.rois]
    present = _means_where_present(evaluation)
    rows = [
        {
            "source": row["source"],
            "name": method_label(row["method"]) + ("" if row["source"] == MEASURED else " (paper)"),
            "colour": colours[row["method"]] if row["source"] == MEASURED else None,
            "cells": [
                cell(row[column], 2)
                | {"best": bool(bold.at[place, column])}
                | {"present": _other(present[row["method"], column], row[column]) if row["source"] == MEASURED else ""}
                for column in columns
            ],
        }
        for place, row in table.iterrows()
    ]
    headers: list[dict[str, Any]] = [{"name": AVERAGE, "cases": ()}]
    for roi in results.rois:
        held, known = results.presence(roi)
        headers.append({"name": roi_label(roi), "cases": (f"{held} of {known}", "cases")})
    return {"columns": headers, "rows": rows}


def difference_rows(differences: pd.DataFrame) -> list[dict[str, Any]]:
    """Each pair of methods, with its rows of `statistics.difference_table`."""
    pairs = []
    for (first, second), pair in differences.groupby(["first", "second"], sort=False):
        rows = [
            {
                "roi": roi_label(row["roi"]),
                "cases": row["cases"],
                "value": f"{row['difference']:.6f}",
                "difference": percent(row["difference"], signed=True),
                "interval": TOO_FEW_CASES if row["note"] == TOO_FEW_CASES else difference_interval(row),
                "p": p_cell(row["p"]),
                "p_holm": p_cell(row["p_holm"]),
                "sure": row["p_holm"] < SIGNIFICANT,
                "false_alarms": [cell(row["cases_without"], 0), *(cell(row[name], 1) for name in _FALSE_ALARMS)],
            }
            for _, row in pair.iterrows()
        ]
        note = next((note for note in pair["note"] if note in CASES_ALONE), "")
        pairs.append({"first": method_label(first), "second": method_label(second), "rows": rows, "note": note})
    return pairs


def score_rows(summary: pd.DataFrame) -> dict[str, Any]:
    """Every score of `SCORES`, and the detection of lesions, per ROI and method: `columns` and `rows`."""
    main, *others = SCORES.values()
    columns = [f"{main.title}, median ({main.unit})", f"{main.title}, mean ({main.unit}, 95 % interval)"]
    columns += [f"{main.title}, mean where present ({main.unit})"]
    columns += [*(score.heading for score in others), "lesions found (%)", "false lesions per case"]
    rows = [
        {
            "roi": roi_label(row["roi"]),
            "cases": _of_cases(row["cases_with"], row["cases_known"]),
            "method": method_label(row["method"]),
            "cells": [*_main_cells(row), *(_mean_cell(row, score) for score in others), *_lesion_cells(row)],
        }
        for roi in summary["roi"].unique()
        for _, row in summary[summary["roi"] == roi].iterrows()
    ]
    return {"columns": columns, "rows": rows}


def _main_cells(row: pd.Series) -> list[dict[str, Any]]:
    score = next(iter(SCORES.values()))
    found = "" if math.isnan(row["dice_low"]) else f" ({interval(row['dice_low'], row['dice_high'])})"
    return [
        cell(score.in_unit(row["dice_median"]), score.digits),
        {"value": row["dice_mean"], "text": f"{percent(row['dice_mean'])}{found}"},
        cell(score.in_unit(row["dice_mean_present"]), score.digits),
    ]


def _mean_cell(row: pd.Series, score: Score) -> dict[str, Any]:
    """The mean of a score, with its cases in brackets where they are not those of Dice."""
    shown, cases = cell(score.in_unit(row[f"{score.name}_mean"]), score.digits), row[f"{score.name}_cases"]
    return shown if cases in (0, row["dice_cases"]) else shown | {"text": f"{shown['text']} [{cases:.0f}]"}


def _lesion_cells(row: pd.Series) -> list[dict[str, Any]]:
    found = cell(100 * row["lesion_sensitivity"], 0)
    if found["text"] != "–":
        found["text"] += f" of {row['lesions']:.0f}"
    return [found, cell(row["false_per_case"], 1)]


def case_rows(results: Results) -> list[dict[str, Any]]:
    """Every case and ROI: the true volume, and for each method its Dice and the predicted volume, means over seeds."""
    keys = ["dataset", "case", "roi"]
    dice, predicted = (
        results.scores.pivot_table(index=keys, columns="method", values=column, sort=False, dropna=False)
        for column in ("dice", "volume_prediction_ml")
    )
    volumes = results.scores.groupby(keys)["volume_truth_ml"].first()
    rows = []
    for key, row in dice.iterrows():
        if key not in volumes.index:
            continue
        cells = [cell(volumes.loc[key], 1)]
        for method in results.methods:
            cells += [cell(100 * row.get(method, math.nan), 1), cell(predicted.loc[key].get(method, math.nan), 1)]
        dataset, case, roi = key
        rows.append({"dataset": dataset, "case": case, "roi": roi_label(roi), "cells": cells})
    return rows


def check_rows(check: ExistenceCheck | None) -> list[dict[str, Any]]:
    """The decisions about existence, ROI by ROI; none where they were not checked."""
    rows = [] if check is None else existence_check_rows(check)
    return [
        {"roi": row["roi"], "way": row["way"]}
        | {"cells": [cell(row["patches"], 0), cell(row["present"], 0), *(cell(100 * s, 1) for s in row["shares"])]}
        for row in rows
    ]


def cost_rows(costs: pd.DataFrame) -> list[dict[str, Any]]:
    """Duration and memory of each stage."""
    return [
        {
            "stage": row["stage"],
            "jobs": row["jobs"],
            "cells": [
                cell(row["total_minutes"], 1),
                cell(row["longest_minutes"], 1),
                cell(row["peak_memory_gib"], 2),
            ],
        }
        for _, row in costs.iterrows()
    ]


def _means_where_present(evaluation: Evaluation) -> dict[tuple[str, str], float]:
    """(Method, ROI) → mean Dice in per cent over the cases that contain the ROI; and the average of these means."""
    means: dict[tuple[str, str], float] = {}
    for method, rows in evaluation.summary.groupby("method", sort=False):
        in_percent = 100 * rows.set_index("roi")["dice_mean_present"]
        means |= {(str(method), str(roi)): float(mean) for roi, mean in in_percent.items()}
        means[str(method), AVERAGE] = float(in_percent.mean())
    return means


def _other(present: float, mean: float) -> str:
    """A mean where present, if it is not the mean that stands beside it."""
    if math.isnan(present) or abs(present - mean) < _DIFFERENT:
        return ""
    return f"{present:.2f}"


def _of_cases(held: int, known: int) -> str:
    return f"{held} of {known} cases"
