"""What stage write_report depends on, reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from ...config.datasets import Dataset
from ...config.evaluation import Scores
from ...config.methods import Method
from ...config.rois import existence_structures
from ...config.runs import ENSEMBLE_SEED
from ...config.schema import Config
from ...config.section import Section, digest
from ...config.training_setup import TrainingSetup, training_setup
from ..acquire import settings as acquire
from ..embed import settings as embed
from ..list_cases import settings as list_cases
from ..predict import settings as predict
from ..resample import settings as resample
from ..score_existence import settings as score_existence
from ..train import settings as train
from ..train_roi_aware import settings as train_roi_aware


class Settings(Section):
    """What the report compares.

    `runs` are (run, method, seed) of all that predicts test cases, where an ensemble is a method of its own without a
    seed, and `out_of_fold` of the trainings that predict the cases of their folds; `runs` is empty where there are no
    test cases. `methods` are those that are compared; `fingerprint` is a short name of every setting that a number in
    the report depends on.
    """

    rois: tuple[str, ...]
    runs: tuple[tuple[str, str, int], ...]
    out_of_fold: tuple[tuple[str, str, int], ...] = Field(default=())
    methods: dict[str, Method]
    datasets: tuple[Dataset, ...]
    scores: Scores
    structures: tuple[tuple[str, ...], ...]
    setup: TrainingSetup
    fingerprint: str


@dataclass(frozen=True)
class Inputs:
    """Everything that the pipeline has made; paths are recognised by their names, so their order does not matter.

    scores: RUN.csv of every run; out_of_fold: RUN.csv of every training with a fold; histories: RUN/history.jsonl of
    every training; confusion and predictions: RUN.csv of every run and RUN/DATASET of every run and every data set with
    test cases, or where there are no test cases the same of every training with a fold; truth: for each of these data
    sets the folder of its full truth, or its raw manifest, as for stage score; cases: cases.csv of any data sets, the
    fully labelled one's too; existence: DATASET.parquet; existence_check: agreement.csv and decisions.csv, where they
    were made; pseudo_labels: RUN.csv, where it was made; benchmarks: the folder of Snakemake's benchmark files;
    config: the config's files, of which the report states the names.
    """

    scores: tuple[Path, ...]
    confusion: tuple[Path, ...]
    histories: tuple[Path, ...]
    predictions: tuple[Path, ...]
    truth: tuple[Path, ...]
    cases: tuple[Path, ...]
    existence: tuple[Path, ...]
    existence_check: tuple[Path, ...]
    roi_aware_metrics: Path | None
    benchmarks: Path | None
    config: tuple[Path, ...]
    out_of_fold: tuple[Path, ...] = ()
    pseudo_labels: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """The folder with table.csv, index.html and the rest."""

    folder: Path


def settings_from(config: Config) -> Settings:
    """Every compared run, all data sets, and the fingerprint of what their numbers depend on."""
    return Settings(
        rois=config.roi_names,
        runs=tuple((run.name, run.row, ENSEMBLE_SEED if run.seed is None else run.seed) for run in config.runs),
        out_of_fold=tuple(
            (run.name, run.method, run.seed)
            for run in config.trainings
            # A training always has a seed; only the type of a run allows for none.
            if run.fold is not None and run.seed is not None
        ),
        methods={run.method: config.methods[run.method] for run in config.trainings},
        datasets=config.all_datasets,
        scores=config.scores,
        structures=existence_structures(config.rois),
        setup=training_setup(config),
        fingerprint=digest(*_what_results_depend_on(config)),
    )


def _what_results_depend_on(config: Config) -> Iterator[Section | str]:
    """Settings and versions of all stages; not how they are executed, nor methods that are not compared."""
    yield from (f"{stage.VERSION}" for stage in (acquire, resample, list_cases, embed, train_roi_aware))
    yield from (f"{stage.VERSION}" for stage in (score_existence, train, predict))
    for dataset in config.all_datasets:
        yield from (acquire.settings_from(config, dataset.name), list_cases.settings_from(config, dataset.name))
        if dataset.labelled != "all" or dataset.unknown_labels:
            yield dataset.model_dump_json(include={"labelled", "unknown_labels"})
    yield config.volumes
    for encoder in dict.fromkeys(config.methods[run.method].encoder for run in config.trainings):
        yield embed.settings_from(config, encoder)
    if config.datasets.fully_labelled is not None:
        yield train_roi_aware.settings_from(config)
    yield from (train.settings_from(config, run.name) for run in config.trainings)
    compared = (config.methods[run.method] for run in config.trainings)
    yield from sorted({f"{method.kind} {method.revision}" for method in compared if method.revision > 1})
    if config.ensemble:
        yield "ensemble"
    # Stage score has no version that would tell of a changed default.
    yield from (predict.prediction_of(config), config.scores.model_dump_json())
