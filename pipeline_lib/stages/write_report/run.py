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

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ...config.runs import ENSEMBLE_SEED
from ...errors import UserError
from ...files import atomic_folder, read_json
from ...progress import Progress, say
from ...reporting.confusion import CONFUSION_TABLE, read_confusion
from ...reporting.data_card import data_card, labelled_rois, odd_cases, read_cases
from ...reporting.evidence import Data, Evaluation, Evidence, Existence, Mistakes, Slices, Trainings
from ...reporting.existence_check import read_existence_check
from ...reporting.experiment import facts, notice
from ...reporting.false_voxels import FALSE_VOXELS_TABLE, false_voxel_table
from ...reporting.gallery import draw_all, planned
from ...reporting.page import write_page
from ...reporting.provenance import Origin, commit, costs, hardware, trained_on, versions
from ...reporting.pseudo_labels import read_pseudo_labels
from ...reporting.results import Results, read_results, run_of_folds
from ...reporting.scans import CaseFiles, Scan
from ...reporting.statistics import comparison_table
from ...reporting.tables import PAGE, TABLE, text_tables
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
    dice = {each.results.out_of_fold: each.dice for each in _evaluations(evidence)}
    say(text_tables(dice.get(False), dice.get(True)))
    say(f"report: {outputs.folder / PAGE}")


def read_evidence(settings: Settings, inputs: Inputs) -> Evidence:
    """Read everything that the report shows; images and predictions are read when they are drawn.

    Raises UserError for a damaged file, and where there are no scores.
    """
    methods = {run: method for run, method, _ in (*settings.runs, *settings.out_of_fold)}
    histories = {path.parent.name: path for path in inputs.histories if path.parent.name in methods}
    evaluations = [
        Evaluation.from_results(read_results(files, runs, settings.rois, of_folds), settings.scores, settings.datasets)
        for files, runs, of_folds in (
            (inputs.scores, settings.runs, False),
            (inputs.out_of_fold, settings.out_of_fold, True),
        )
        if files
    ]
    if not evaluations:
        raise UserError("--scores", "names no file, so there is nothing to report", "name the tables of stage score")
    # Where there are no test cases, the report shows what is out of fold in all places.
    results, first_runs = evaluations[0].results, _first_runs(settings)
    return Evidence(
        evaluation=evaluations[0],
        out_of_fold=evaluations[1] if len(evaluations) > 1 else None,
        mistakes=Mistakes(
            read_confusion(inputs.confusion, settings.runs or settings.out_of_fold), false_voxel_table(results)
        ),
        slices=Slices(scans=_scans(settings, inputs, results, first_runs), runs=first_runs),
        trainings=Trainings(
            methods=settings.methods,
            histories={run: (methods[run], read_history(path)) for run, path in histories.items()},
            labelled_cases=settings.setup.labelled,
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
    return {
        **{name: table for each in _evaluations(evidence) for name, table in _score_tables(each).items()},
        results.file_name(CONFUSION_TABLE): evidence.mistakes.confusion,
        results.file_name(FALSE_VOXELS_TABLE): evidence.mistakes.false_voxels,
        **({} if pseudo_labels is None else {"pseudo_labels.csv": pseudo_labels}),
        "data_card.csv": data_card(data.cases, data.datasets, results.rois),
        "data_card_rois.csv": labelled_rois(data.cases, data.datasets),
        "data_card_odd_cases.csv": odd_cases(data.datasets),
    }


def _evaluations(evidence: Evidence) -> list[Evaluation]:
    """That of the test cases and that of cross-validation, or one of the two."""
    return [each for each in (evidence.evaluation, evidence.out_of_fold) if each is not None]


def _score_tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    tables = {
        TABLE: evaluation.dice,
        "summary.csv": evaluation.summary,
        "differences.csv": evaluation.differences,
        "comparison.csv": comparison_table(evaluation.dice, evaluation.differences, evaluation.results),
    }
    return {evaluation.results.file_name(name): table for name, table in tables.items()}


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


def _first_runs(settings: Settings) -> dict[str, str]:
    """Method → the run of its first seed, whose predictions are shown; an ensemble has none."""
    found: dict[str, str] = {}
    for run, method, seed in settings.runs or settings.out_of_fold:
        if seed != ENSEMBLE_SEED:
            found.setdefault(method, run if settings.runs else run_of_folds(method, seed))
    return found


def _scans(
    settings: Settings, inputs: Inputs, results: Results, runs: Mapping[str, str]
) -> dict[tuple[str, str], Scan]:
    """Every scored case that has predictions by the runs that are shown, by data set and case."""
    folders = {(path.parent.name, path.name): path for path in inputs.predictions}
    volumes = {path.parent.name: path.parent for path in inputs.cases}
    full = settings.scores.truth == "full"
    truth = {path.name: path for path in inputs.truth} if full else {}
    shown = results.scores[results.scores["run"].isin(runs.values())]
    predicted: dict[tuple[str, str], dict[str, Path]] = {}
    for row in shown[["run", "predicted_by", "dataset", "case"]].drop_duplicates().itertuples():
        if (folder := folders.get((row.predicted_by, row.dataset))) is not None:
            predicted.setdefault((row.dataset, row.case), {})[row.run] = folder / f"{row.case}.nii.gz"
    return {
        (dataset, case): Scan(
            CaseFiles(
                dataset=dataset,
                case=case,
                volume=volumes[dataset] / case,
                predictions=predictions,
                truth=truth[dataset] / f"{case}.nii.gz" if full else None,
            ),
            settings.rois,
        )
        for (dataset, case), predictions in predicted.items()
    }


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
