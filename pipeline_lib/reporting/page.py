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

from ..scoring.dice import CONVENTION_TEXTS
from ..scoring.intervals import CONFIDENCE, DRAWS
from .existence_check import ExistenceCheck, existence_check_rows
from .gallery import DATA, EXISTENCE, SCORES, SLICES, TRAINING, Shown
from .results import Results, method_label, roi_label
from .style import method_colours
from .tables import AVERAGE, MEASURED, best_cells

_TEMPLATES = Path(__file__).with_name("templates")
_SECTIONS = {
    SCORES: "Scores",
    SLICES: "Slices",
    TRAINING: "Training",
    EXISTENCE: "Existence",
    DATA: "Data",
}
_SIGNIFICANT = 0.05
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
            findings=findings(content),
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
            tested=not content.differences.empty,
            seeds_note=f", mean of {seeds} trainings" if seeds > 1 else "",
            fingerprint=content.fingerprint,
            trained_on=content.trained_on,
            hardware=content.hardware,
            versions=content.versions,
            convention_text=CONVENTION_TEXTS[content.convention],
            statistics_text=f"{100 * CONFIDENCE:.0f} % intervals: percentiles of {DRAWS} bootstrap draws over cases"
            + (" and trainings" if seeds > 1 else ""),
            costs=_cost_rows(content.costs),
            check=_check_rows(content.check),
        ),
        encoding="utf-8",
    )


def findings(content: PageContent) -> list[str]:
    """The summary in sentences: who is best on average, and which differences are beyond chance."""
    measured = content.table[content.table["source"] == MEASURED].dropna(subset=AVERAGE)
    if measured.empty:
        return ["No case has a score."]
    ranked = measured.sort_values(AVERAGE, ascending=False, kind="stable")
    best = ranked.iloc[0]
    averages = measured.set_index("method")[AVERAGE]
    sentences = [f"{method_label(best['method'])} has the highest average Dice: {best[AVERAGE]:.1f} %."]
    for (first, second), pair in content.differences.groupby(["first", "second"], sort=False):
        sure = pair[pair["p_holm"] < _SIGNIFICANT]
        better = [roi_label(roi) for roi in sure.loc[sure["difference"] > 0, "roi"]]
        worse = [roi_label(roi) for roi in sure.loc[sure["difference"] < 0, "roi"]]
        if first != content.results.methods[0] or not {first, second} <= set(averages.index):
            continue
        told = [f"better on {', '.join(better)}"] * bool(better) + [f"worse on {', '.join(worse)}"] * bool(worse)
        told = told or [_nothing_told(pair)]
        # Of the averages shown beside it: pairs leave out the cases that only one method has a score for.
        gain = float(averages[second] - averages[first]) / 100
        sentences.append(
            f"{method_label(second)} against {method_label(first)}: {_percent(gain, signed=True)} percentage points on "
            f"average{_how_sure(gain, pair)}; {'; '.join(told)}."
        )
    return sentences


def _how_sure(gain: float, pair: pd.DataFrame) -> str:
    """Interval and p of the difference of averages, and that difference itself where it is not the `gain` stated."""
    average = pair[pair["roi"] == AVERAGE].iloc[0]
    if math.isnan(average["low"]):
        return ""
    paired = _percent(average["difference"], signed=True)
    own = "" if paired == _percent(gain, signed=True) else f"{paired} over the cases that both have a score for, "
    return f" ({own}95 % interval {_difference_interval(average)}, p {_p_cell(average['p_wilcoxon'])['sentence']})"


def _nothing_told(pair: pd.DataFrame) -> str:
    """That no ROI differs, or that there are too few cases to tell."""
    tested = pair.dropna(subset="p_wilcoxon")
    # The least p of a signed-rank test is that of all signs being equal; Holm's method multiplies it by the tests.
    if tested.empty or len(tested) * 2.0 ** (1 - tested["cases"].max()) >= _SIGNIFICANT:
        most = pair.loc[pair["roi"] != AVERAGE, "cases"].max()
        return f"too few cases ({most} at most) to test single ROIs"
    return "no ROI for sure better or worse"


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
        f"Average: mean of the ROIs' means. Bold: {bold}.{paper}"
    )


def _surface_caption(content: PageContent) -> str:
    return (
        f"Surface Dice at {content.tolerance_mm:g} mm: share of both surfaces that lies within the tolerance of the "
        "other. HD95 is the mean over cases in which both truth and prediction hold the ROI (their number in "
        "brackets), so a method that misses an ROI altogether is not punished by it: read it beside Dice. A lesion is "
        "found if any voxel of it is predicted."
    )


def _dice_rows(table: pd.DataFrame, results: Results) -> dict[str, Any]:
    bold = best_cells(table)
    colours = method_colours(results.methods)
    columns = list(table.columns[3:])
    rows = [
        {
            "source": row["source"],
            "name": method_label(row["method"]) + ("" if row["source"] == MEASURED else " (paper)"),
            "colour": colours[row["method"]] if row["source"] == MEASURED else None,
            "cells": [_cell(row[column], 2) | {"best": bool(bold.at[place, column])} for column in columns],
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
                "difference": _percent(row["difference"], signed=True),
                "interval": _difference_interval(row),
                "p": _p_cell(row["p_wilcoxon"]),
                "p_holm": _p_cell(row["p_holm"]),
                "sure": row["p_holm"] < _SIGNIFICANT,
            }
            for _, row in pair.iterrows()
        ]
        pairs.append({"first": method_label(first), "second": method_label(second), "rows": rows})
    return pairs


def _surface_rows(summary: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for roi in summary["roi"].unique():
        for _, row in summary[summary["roi"] == roi].iterrows():
            interval = _interval(row["dice_low"], row["dice_high"])
            distance = _cell(row["hd95_mm_mean"], 1)
            lesions = _cell(100 * row["lesion_sensitivity"], 0)
            if lesions["text"] != "–":
                lesions["text"] += f" % of {row['lesions']:.0f}"
            rows.append(
                {
                    "roi": roi_label(roi),
                    "method": method_label(row["method"]),
                    "cells": [
                        _cell(100 * row["dice_median"], 1),
                        {"value": row["dice_mean"], "text": f"{_percent(row['dice_mean'])} ({interval})"},
                        _cell(100 * row["surface_dice_mean"], 1),
                        distance | {"text": f"{distance['text']} ({row['hd95_mm_cases']:.0f})"},
                        lesions,
                        _cell(row["false_per_case"], 1),
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
        cells = [_cell(volumes.loc[dataset, case, roi], 1)]
        cells += [_cell(100 * row.get(method, math.nan), 1) for method in results.methods]
        rows.append({"dataset": dataset, "case": case, "roi": roi_label(roi), "cells": cells})
    return rows


def _check_rows(check: ExistenceCheck | None) -> list[dict[str, Any]]:
    rows = [] if check is None else existence_check_rows(check)
    return [
        {"roi": row["roi"], "way": row["way"]}
        | {"cells": [_cell(row["patches"], 0), _cell(row["present"], 0), *(_cell(100 * s, 1) for s in row["shares"])]}
        for row in rows
    ]


def _cost_rows(costs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "stage": row["stage"],
            "jobs": row["jobs"],
            "cells": [
                _cell(row["total_minutes"], 1),
                _cell(row["longest_minutes"], 1),
                _cell(row["peak_memory_gib"], 2),
            ],
        }
        for _, row in costs.iterrows()
    ]


def _cell(value: float, digits: int) -> dict[str, Any]:
    if math.isnan(value):
        return {"value": "", "text": "–"}
    return {"value": f"{value:.6g}", "text": f"{value:.{digits}f}"}


def _percent(value: float, signed: bool = False) -> str:
    if math.isnan(value):
        return "–"
    text = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def _interval(low: float, high: float, signed: bool = False) -> str:
    return "–" if math.isnan(low) else f"{_percent(low, signed)} to {_percent(high, signed)}"


def _difference_interval(row: Mapping[str, Any]) -> str:
    return _interval(row["low"], row["high"], signed=True)


def _p_cell(p: float) -> dict[str, str]:
    if math.isnan(p):
        return {"value": "", "text": "–", "sentence": "unknown"}
    text = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return {"value": f"{p:.3g}", "text": text, "sentence": text if p < 0.001 else f"= {text}"}


def _template(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
