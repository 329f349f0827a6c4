"""index.html: everything in one file that opens from disk, without a network."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..scoring.dice import CONVENTION_TEXTS, scores_absence
from .cells import cell, difference_interval, interval, p_cell, percent
from .existence_check import ExistenceCheck, existence_check_rows
from .findings import SIGNIFICANT, findings
from .gallery import DATA, EXISTENCE, SCORES, SLICES, TRAINING, Shown
from .intervals import CONFIDENCE, FEWEST_CASES, ONE_TRAINING, TOO_FEW_CASES
from .results import Results, method_label, roi_label
from .style import method_colours
from .tables import MEASURED, best_cells

_TEMPLATES = Path(__file__).with_name("templates")
_SECTIONS = {
    SCORES: "Scores",
    SLICES: "Slices",
    TRAINING: "Training",
    EXISTENCE: "Existence",
    DATA: "Data",
}
_FALSE_ALARMS = ("false_alarms_first", "false_alarms_second")
_SCALE = 0.72
"""Size of figures on the page relative to their pixels, so that fine screens and print show more than one per dot."""


@dataclass(frozen=True)
class PageContent:
    """What the page shows; tables as made by `tables`, `statistics`, `data_card` and `provenance`."""

    results: Results
    convention: str
    tolerance_mm: float
    table: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    figures: Sequence[Shown]
    card: pd.DataFrame
    odd: pd.DataFrame
    viewer: Markup
    fingerprint: str
    versions: Mapping[str, str]
    trained_on: str
    hardware: str
    costs: pd.DataFrame
    check: ExistenceCheck | None


def write_page(content: PageContent, figures: Path, path: Path) -> None:
    """Write the page; `figures` is the folder of the PNG files that it takes in."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    results = content.results
    seeds = results.scores["seed"].nunique()
    path.write_text(
        environment.get_template("index.html.j2").render(
            style=_template("style.css"),
            script=_template("tables.js"),
            made=date.today().isoformat(),
            counts=_counts(results),
            sections=_navigation(content),
            findings=findings(content.table, content.differences, results.methods),
            table=_dice_rows(content.table, results),
            table_caption=_table_caption(content),
            differences=_difference_rows(content.differences),
            surface=_surface_rows(content.summary),
            surface_caption=_surface_caption(content),
            figure_sections=_figure_sections(content.figures, figures),
            card={"columns": list(content.card.columns), "rows": content.card.to_numpy().tolist()},
            odd=content.odd.to_dict("records"),
            viewer=content.viewer,
            cases=_case_rows(results),
            method_names=[method_label(method) for method in results.methods],
            tested=bool(content.differences["p"].notna().any()),
            counted_cases="all" if scores_absence(content.convention) else "with the ROI",
            seeds_note=f", mean of {seeds} trainings" if seeds > 1 else "",
            fingerprint=content.fingerprint,
            trained_on=content.trained_on,
            hardware=content.hardware,
            versions=content.versions,
            convention_text=CONVENTION_TEXTS[content.convention],
            statistics_text=_statistics_text(results),
            costs=_cost_rows(content.costs),
            check=_check_rows(content.check),
        ),
        encoding="utf-8",
    )


def _navigation(content: PageContent) -> list[tuple[str, str]]:
    present = {figure.section for figure in content.figures}
    middle = [(anchor, title) for anchor, title in _SECTIONS.items() if anchor in present]
    return [
        ("summary", "Summary"),
        *middle,
        ("viewer", "Slice viewer"),
        ("cases", "Every case"),
        ("provenance", "What made this"),
    ]


def _counts(results: Results) -> dict[str, int]:
    return {
        "methods": len(results.methods),
        "rois": len(results.rois),
        "datasets": results.scores["dataset"].nunique(),
        "cases": len(results.scores[["dataset", "case"]].drop_duplicates()),
    }


def _table_caption(content: PageContent) -> str:
    bold = "the best two" if (content.table.groupby("source").size() >= 4).any() else "the best"
    paper = (
        " Paper: Zhao et al., MICCAI 2024, Table 1, whose convention is not stated."
        if (content.table["source"] != MEASURED).any()
        else ""
    )
    return (
        f"Convention {content.convention}: {CONVENTION_TEXTS[content.convention]}. "
        f"Average: mean of the ROIs' means. Bold: {bold}, be it by chance or not.{paper}"
    )


def _surface_caption(content: PageContent) -> str:
    return (
        f"Surface Dice at {content.tolerance_mm:g} mm: share of both surfaces that lies within the tolerance of the "
        "other. HD95 is the mean over cases in which both truth and prediction hold the ROI (their number in "
        "brackets), so a method that misses an ROI altogether is not punished by it: read it beside Dice. A lesion is "
        "found if any voxel of it is predicted."
    )


def _statistics_text(results: Results) -> str:
    over = "cases and trainings" if results.several_trainings else "cases alone, since each method has one training"
    return f"{100 * CONFIDENCE:.0f} % t intervals over {over}; none for fewer than {FEWEST_CASES} cases"


def _dice_rows(table: pd.DataFrame, results: Results) -> dict[str, Any]:
    bold = best_cells(table)
    colours = method_colours(results.methods)
    columns = list(table.columns[3:])
    rows = [
        {
            "source": row["source"],
            "name": method_label(row["method"]) + ("" if row["source"] == MEASURED else " (paper)"),
            "colour": colours[row["method"]] if row["source"] == MEASURED else None,
            "cells": [cell(row[column], 2) | {"best": bool(bold.at[place, column])} for column in columns],
        }
        for place, row in table.iterrows()
    ]
    return {"columns": [roi_label(column) for column in columns], "rows": rows}


def _difference_rows(differences: pd.DataFrame) -> list[dict[str, Any]]:
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
        note = ONE_TRAINING if (pair["note"] == ONE_TRAINING).any() else ""
        pairs.append({"first": method_label(first), "second": method_label(second), "rows": rows, "note": note})
    return pairs


def _surface_rows(summary: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for roi in summary["roi"].unique():
        for _, row in summary[summary["roi"] == roi].iterrows():
            dice_interval = interval(row["dice_low"], row["dice_high"])
            distance = cell(row["hd95_mm_mean"], 1)
            lesions = cell(100 * row["lesion_sensitivity"], 0)
            if lesions["text"] != "–":
                lesions["text"] += f" % of {row['lesions']:.0f}"
            rows.append(
                {
                    "roi": roi_label(roi),
                    "method": method_label(row["method"]),
                    "cells": [
                        cell(100 * row["dice_median"], 1),
                        {"value": row["dice_mean"], "text": f"{percent(row['dice_mean'])} ({dice_interval})"},
                        cell(100 * row["surface_dice_mean"], 1),
                        distance | {"text": f"{distance['text']} ({row['hd95_mm_cases']:.0f})"},
                        lesions,
                        cell(row["false_per_case"], 1),
                    ],
                }
            )
    return rows


def _figure_sections(shown: Sequence[Shown], folder: Path) -> list[dict[str, Any]]:
    sections = []
    for anchor, title in _SECTIONS.items():
        figures = [figure for figure in shown if figure.section == anchor]
        if figures:
            sections.append(
                {"anchor": anchor, "title": title, "figures": [_embedded(each, folder) for each in figures]}
            )
    return sections


def _embedded(shown: Shown, folder: Path) -> dict[str, Any]:
    content = (folder / shown.section / f"{shown.name}.png").read_bytes()
    # A PNG's header chunk begins with its width and height.
    width, height = struct.unpack(">II", content[16:24])
    return {
        "name": shown.name,
        "folded": shown.folded,
        "title": shown.title,
        "caption": shown.caption,
        "source": "data:image/png;base64," + base64.b64encode(content).decode(),
        "width": round(width * _SCALE),
        "height": round(height * _SCALE),
    }


def _case_rows(results: Results) -> list[dict[str, Any]]:
    keys = ["dataset", "case", "roi"]
    scores = results.scores.pivot_table(index=keys, columns="method", values="dice", sort=False, dropna=False)
    volumes = results.scores.groupby(keys)["volume_truth_ml"].first()
    rows = []
    for (dataset, case, roi), row in scores.iterrows():
        if (dataset, case, roi) not in volumes.index:
            continue
        cells = [cell(volumes.loc[dataset, case, roi], 1)]
        cells += [cell(100 * row.get(method, math.nan), 1) for method in results.methods]
        rows.append({"dataset": dataset, "case": case, "roi": roi_label(roi), "cells": cells})
    return rows


def _check_rows(check: ExistenceCheck | None) -> list[dict[str, Any]]:
    rows = [] if check is None else existence_check_rows(check)
    return [
        {"roi": row["roi"], "way": row["way"]}
        | {"cells": [cell(row["patches"], 0), cell(row["present"], 0), *(cell(100 * s, 1) for s in row["shares"])]}
        for row in rows
    ]


def _cost_rows(costs: pd.DataFrame) -> list[dict[str, Any]]:
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


def _template(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
