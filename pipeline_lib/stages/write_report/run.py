"""Tables, figures and one page that opens offline.

    python -m pipeline_lib.stages.write_report.run --settings settings.json \\
        --scores results/scores/RUN.csv … --histories results/models/RUN/history.jsonl … \\
        --predictions results/predictions/RUN/DATASET … --truth resources/truth/DATASET … \\
        --cases results/volumes/DATASET/cases.csv … --existence results/existence/DATASET.parquet … \\
        --existence-check results/existence_check/agreement.csv results/existence_check/decisions.csv \\
        --roi-aware-metrics results/roi_aware_network/metrics.json \\
        --benchmarks results/benchmarks --folder results/report
"""

from __future__ import annotations

import pandas as pd

from ...files import atomic_folder, read_json
from ...progress import Progress, say
from ...reporting.data_card import data_card, labelled_rois, odd_cases, read_cases
from ...reporting.existence_check import read_existence_check
from ...reporting.gallery import Material, draw_all
from ...reporting.page import PageContent, write_page
from ...reporting.provenance import costs, hardware, trained_on, versions
from ...reporting.results import Results, read_results
from ...reporting.scans import CaseFiles, Scan
from ...reporting.statistics import comparison_table, difference_table, summary_table
from ...reporting.tables import PAGE, TABLE, dice_table, text_table
from ...reporting.training_figures import read_history
from ...reporting.viewer import viewer_markup
from ..command import stage_command
from .settings import Inputs, Outputs, Settings

FIGURES = "figures"


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """Write the tables (csv), the figures (PNG and SVG) and the page, and print the Dice table."""
    results = read_results(inputs.scores, settings.runs, settings.rois)
    table = dice_table(results, settings.scores.convention, [dataset.name for dataset in settings.datasets])
    summary, differences = summary_table(results), difference_table(results, settings.scores.convention)
    cases, odd = read_cases(inputs.cases), odd_cases(settings.datasets)
    card = data_card(cases, settings.datasets, settings.rois)
    with atomic_folder(outputs.folder) as folder:
        for name, content in (
            (TABLE, table),
            ("summary.csv", summary),
            ("differences.csv", differences),
            ("comparison.csv", comparison_table(table, differences, results)),
            ("data_card.csv", card),
            ("data_card_rois.csv", labelled_rois(cases, settings.datasets)),
            ("data_card_odd_cases.csv", odd),
        ):
            content.to_csv(folder / name, index=False, float_format="%.6g")
        progress = Progress("write_report", _figure_count(settings), "figures")
        material, shown = _material(settings, inputs, results, summary, cases), []
        for figure in draw_all(material, folder / FIGURES):
            shown.append(figure)
            progress.advance(note=figure.name)
        write_page(
            PageContent(
                results=results,
                convention=settings.scores.convention,
                tolerance_mm=settings.scores.surface_tolerance_mm,
                table=table,
                summary=summary,
                differences=differences,
                figures=shown,
                card=card,
                odd=odd,
                viewer=viewer_markup(results, material.scans, material.runs),
                fingerprint=settings.fingerprint,
                versions=versions(),
                trained_on=trained_on(history for _, history in material.histories.values()),
                hardware=hardware(),
                costs=costs(inputs.benchmarks),
                check=material.check,
            ),
            folder / FIGURES,
            folder / PAGE,
        )
    say(text_table(table))
    say(f"report: {outputs.folder / PAGE}")


def _material(
    settings: Settings, inputs: Inputs, results: Results, summary: pd.DataFrame, cases: dict[str, pd.DataFrame]
) -> Material:
    methods = {run: method for run, method, _ in settings.runs}
    first_runs: dict[str, str] = {}
    for run, method, _ in settings.runs:
        first_runs.setdefault(method, run)
    histories = {path.parent.name: path for path in inputs.histories}
    return Material(
        results=results,
        summary=summary,
        convention=settings.scores.convention,
        runs=first_runs,
        scans=_scans(settings, inputs),
        histories={run: (methods[run], read_history(path)) for run, path in histories.items() if run in methods},
        existence=pd.concat([pd.read_parquet(path) for path in inputs.existence]) if inputs.existence else None,
        check=read_existence_check(inputs.existence_check),
        metrics=read_json(inputs.roi_aware_metrics) if inputs.roi_aware_metrics is not None else None,
        cases=cases,
        datasets=settings.datasets,
        structures=settings.structures,
        methods=settings.methods,
    )


def _scans(settings: Settings, inputs: Inputs) -> dict[tuple[str, str], Scan]:
    """Every test case that has predictions, by data set and case."""
    predictions = {(path.parent.name, path.name): path for path in inputs.predictions}
    volumes = {path.parent.name: path.parent for path in inputs.cases}
    full = settings.scores.truth == "full"
    truth = {path.name: path for path in inputs.truth} if full else {}
    scans = {}
    for dataset in settings.datasets:
        runs = [run for run, name in predictions if name == dataset.name]
        for case in dataset.split_cases("test") if runs else ():
            files = CaseFiles(
                dataset=dataset.name,
                case=case,
                volume=volumes[dataset.name] / case,
                predictions={run: predictions[run, dataset.name] / f"{case}.nii.gz" for run in runs},
                truth=truth[dataset.name] / f"{case}.nii.gz" if full else None,
            )
            scans[dataset.name, case] = Scan(files, settings.rois)
    return scans


def _figure_count(settings: Settings) -> int:
    """About how many figures there will be: one for each ROI and method, and five more."""
    return len(settings.rois) + len({method for _, method, _ in settings.runs}) + 5


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
