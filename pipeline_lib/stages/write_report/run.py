"""Tables, figures and one page that opens offline.

    python -m pipeline_lib.stages.write_report.run --settings settings.json \\
        --scores results/scores/RUN.csv … --confusion results/confusion/RUN.csv … \\
        --out-of-fold results/scores/TRAINING.csv … --histories results/models/RUN/history.jsonl … \\
        --predictions results/predictions/RUN/DATASET … --truth resources/truth/DATASET … \\
        --cases results/volumes/DATASET/cases.csv … --existence results/existence/DATASET.parquet … \\
        --existence-check results/existence_check/agreement.csv results/existence_check/decisions.csv \\
        --pseudo-labels results/pseudo_labels/RUN.csv … \\
        --roi-aware-metrics results/roi_aware_network/metrics.json --benchmarks results/benchmarks \\
        --config config/config.yaml --folder results/report
"""

from __future__ import annotations

import pandas as pd

from ...config.runs import ENSEMBLE_SEED
from ...files import atomic_folder, read_json
from ...progress import Progress, say
from ...reporting.confusion import read_confusion
from ...reporting.data_card import data_card, labelled_rois, odd_cases, read_cases
from ...reporting.evidence import Data, Evaluation, Evidence, Existence, Mistakes, Slices, Trainings
from ...reporting.existence_check import read_existence_check
from ...reporting.experiment import facts, notice
from ...reporting.false_voxels import false_voxel_table
from ...reporting.gallery import draw_all, planned
from ...reporting.page import write_page
from ...reporting.provenance import Origin, commit, costs, hardware, trained_on, versions
from ...reporting.pseudo_labels import read_pseudo_labels
from ...reporting.results import read_results
from ...reporting.scans import CaseFiles, Scan
from ...reporting.statistics import comparison_table
from ...reporting.tables import OUT_OF_FOLD, PAGE, TABLE, text_tables
from ...reporting.training_figures import read_history
from ...reporting.viewer import viewer_markup
from ..command import stage_command
from .settings import Inputs, Outputs, Settings

FIGURES = "figures"


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """Write the tables (csv), the figures (PNG and SVG) and the page, and print the Dice table."""
    evidence = read_evidence(settings, inputs)
    with atomic_folder(outputs.folder) as folder:
        for name, table in _tables(evidence).items():
            table.to_csv(folder / name, index=False, float_format="%.6g")
        progress, shown = Progress("write_report", len(planned(evidence)), "figures"), []
        for figure in draw_all(evidence, folder / FIGURES):
            shown.append(figure)
            progress.advance(note=figure.name)
        viewer = viewer_markup(evidence.results, evidence.slices.scans, evidence.slices.runs)
        write_page(evidence, _origin(settings, inputs, evidence), shown, viewer, folder / FIGURES, folder / PAGE)
    of_folds = evidence.out_of_fold
    say(text_tables(evidence.evaluation.dice, None if of_folds is None else of_folds.dice))
    say(f"report: {outputs.folder / PAGE}")


def read_evidence(settings: Settings, inputs: Inputs) -> Evidence:
    """Read everything that the report shows; images and predictions are read when they are drawn.

    Raises UserError for a damaged file.
    """
    methods = {run: method for run, method, _ in (*settings.runs, *settings.out_of_fold)}
    first_runs: dict[str, str] = {}
    for run, method, seed in settings.runs:
        if seed != ENSEMBLE_SEED:
            first_runs.setdefault(method, run)
    histories = {path.parent.name: path for path in inputs.histories if path.parent.name in methods}
    results = read_results(inputs.scores, settings.runs, settings.rois)
    out_of_fold = None
    if inputs.out_of_fold:
        of_folds = read_results(inputs.out_of_fold, settings.out_of_fold, settings.rois)
        out_of_fold = Evaluation.from_results(of_folds, settings.scores, settings.datasets)
    return Evidence(
        evaluation=Evaluation.from_results(results, settings.scores, settings.datasets),
        out_of_fold=out_of_fold,
        mistakes=Mistakes(read_confusion(inputs.confusion, settings.runs), false_voxel_table(results)),
        slices=Slices(scans=_scans(settings, inputs), runs=first_runs),
        trainings=Trainings(
            methods=settings.methods,
            histories={run: (methods[run], read_history(path)) for run, path in histories.items()},
            pseudo_labels=read_pseudo_labels(inputs.pseudo_labels, methods),
        ),
        existence=Existence(
            scores=pd.concat([pd.read_parquet(path) for path in inputs.existence]) if inputs.existence else None,
            check=read_existence_check(inputs.existence_check),
            metrics=read_json(inputs.roi_aware_metrics) if inputs.roi_aware_metrics is not None else None,
            structures=settings.structures,
        ),
        data=Data(datasets=settings.datasets, cases=read_cases(inputs.cases)),
    )


def _tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """Every table of the report by its file's name."""
    data, results, pseudo_labels = evidence.data, evidence.results, evidence.trainings.pseudo_labels
    tables = _score_tables(evidence.evaluation)
    if evidence.out_of_fold is not None:
        tables |= {f"{OUT_OF_FOLD}{name}": table for name, table in _score_tables(evidence.out_of_fold).items()}
    return {
        **tables,
        "confusion.csv": evidence.mistakes.confusion,
        "false_voxels.csv": evidence.mistakes.false_voxels,
        **({} if pseudo_labels is None else {"pseudo_labels.csv": pseudo_labels}),
        "data_card.csv": data_card(data.cases, data.datasets, results.rois),
        "data_card_rois.csv": labelled_rois(data.cases, data.datasets),
        "data_card_odd_cases.csv": odd_cases(data.datasets),
    }


def _score_tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    return {
        TABLE: evaluation.dice,
        "summary.csv": evaluation.summary,
        "differences.csv": evaluation.differences,
        "comparison.csv": comparison_table(evaluation.dice, evaluation.differences, evaluation.results),
    }


def _origin(settings: Settings, inputs: Inputs, evidence: Evidence) -> Origin:
    return Origin(
        facts=facts(evidence, settings.setup, inputs.config, commit()),
        notice=notice(evidence),
        fingerprint=settings.fingerprint,
        versions=versions(),
        trained_on=trained_on(history for _, history in evidence.trainings.histories.values()),
        hardware=hardware(),
        costs=costs(inputs.benchmarks),
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


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
