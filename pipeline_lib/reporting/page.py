"""index.html: everything in one file that opens from disk, without a network."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..scoring.dice import CONVENTION_TEXTS, scores_absence
from ..scoring.scores import SCORES as SCORE_TABLE
from .data_card import data_card, odd_cases
from .evidence import Evaluation, Evidence
from .figure_kind import DATA, EXISTENCE, SCORES, SLICES, TRAINING
from .findings import findings
from .gallery import Shown
from .intervals import CONFIDENCE, FEWEST_CASES
from .page_rows import case_rows, check_rows, cost_rows, dice_rows, difference_rows, score_rows
from .provenance import Origin
from .results import Results, method_label
from .tables import MEASURED

_TEMPLATES = Path(__file__).with_name("templates")
_SECTIONS = {
    SCORES: "Scores",
    SLICES: "Slices",
    TRAINING: "Training",
    EXISTENCE: "Existence",
    DATA: "Data",
}
_SCALE = 0.72
"""Size of figures on the page relative to their pixels, so that fine screens and print show more than one per dot."""


def write_page(
    evidence: Evidence, origin: Origin, shown: Sequence[Shown], viewer: Markup, figures: Path, path: Path
) -> None:
    """Write the page; `figures` is the folder of the PNG files that it takes in, `shown` what they are."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    evaluation, results, data = evidence.evaluation, evidence.results, evidence.data
    convention, seeds = evaluation.settings.convention, results.trainings
    card = data_card(data.cases, data.datasets, results.rois)
    path.write_text(
        environment.get_template("index.html.j2").render(
            style=_template("style.css"),
            script=_template("tables.js"),
            made=date.today().isoformat(),
            counts=_counts(results),
            sections=_navigation(evidence, shown),
            origin=origin,
            findings=findings(evaluation.dice, evaluation.differences, results.methods),
            table=dice_rows(evaluation),
            table_caption=_table_caption(evaluation),
            differences=difference_rows(evaluation.differences),
            case_noun=results.case_noun,
            only_out_of_fold=results.out_of_fold,
            out_of_fold=_out_of_fold(evidence.out_of_fold),
            scores=score_rows(evaluation.summary),
            scores_caption=_scores_caption(evaluation),
            figure_sections=_figure_sections(shown, figures),
            card={"columns": list(card.columns), "rows": card.to_numpy().tolist()},
            odd=odd_cases(data.datasets).to_dict("records"),
            viewer=viewer,
            cases=case_rows(results),
            method_names=[method_label(method) for method in results.methods],
            tested=bool(evaluation.differences["p"].notna().any()),
            counted_cases="all" if scores_absence(convention) else "with the ROI",
            seeds_note=f", mean of {seeds} trainings" if seeds > 1 else "",
            convention_text=CONVENTION_TEXTS[convention],
            statistics_text=_statistics_text(results),
            costs=cost_rows(origin.costs),
            check=check_rows(evidence.existence.check),
        ),
        encoding="utf-8",
    )


def _out_of_fold(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """What the section of cross-validation shows; None where there is none."""
    if evaluation is None:
        return None
    results = evaluation.results
    return {
        "cases": _counts(results)["cases"],
        "findings": findings(evaluation.dice, evaluation.differences, results.methods),
        "table": dice_rows(evaluation),
        "table_caption": _table_caption(evaluation),
        "differences": difference_rows(evaluation.differences),
        "statistics": _statistics_text(results),
    }


def _navigation(evidence: Evidence, shown: Sequence[Shown]) -> list[tuple[str, str]]:
    present = {figure.section for figure in shown}
    middle = [(anchor, title) for anchor, title in _SECTIONS.items() if anchor in present]
    return [
        ("summary", "Summary"),
        *([("out-of-fold", "Out of fold")] if evidence.out_of_fold is not None else []),
        *middle,
        ("viewer", "Slice viewer"),
        ("cases", "Every case"),
        ("provenance", "What made this"),
    ]


def _counts(results: Results) -> dict[str, int]:
    return {
        "methods": len(results.methods) - len(results.ensembles),
        "rois": len(results.rois),
        "datasets": results.scores["dataset"].nunique(),
        "cases": len(results.scores[["dataset", "case"]].drop_duplicates()),
    }


def _table_caption(evaluation: Evaluation) -> str:
    convention, table = evaluation.settings.convention, evaluation.dice
    bold = "the best two" if (table.groupby("source").size() >= 4).any() else "the best"
    paper = (
        " Paper: Zhao et al., MICCAI 2024, Table 1, which does not state its convention."
        if (table["source"] != MEASURED).any()
        else ""
    )
    present = (
        " In brackets: the mean over the cases that contain the ROI, where others count too."
        if evaluation.other_where_present.any()
        else ""
    )
    return (
        f"Convention {convention}: {CONVENTION_TEXTS[convention]}. Average: mean of the ROIs' means.{present} "
        f"Bold: {bold}, which may be due to chance.{paper}"
    )


def _scores_caption(evaluation: Evaluation) -> str:
    tolerance = evaluation.settings.surface_tolerance_mm
    meanings = " ".join(
        f"{score.title}: {score.meaning.format(tolerance_mm=tolerance)}; {score.better} is better."
        for score in SCORE_TABLE.values()
    )
    return (
        f"Means over cases. {meanings} In square brackets: the number of cases that have the score, where it is not "
        "that of Dice. A lesion is found if any voxel of it is predicted."
    )


def _statistics_text(results: Results) -> str:
    over = "cases and trainings" if results.several_trainings else "cases alone, since each method has one training"
    over += ", of ensembles over cases alone" if results.ensembles else ""
    return f"{100 * CONFIDENCE:.0f} % t intervals over {over}; none for fewer than {FEWEST_CASES} cases"


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


def _template(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
