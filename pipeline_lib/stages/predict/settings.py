"""What stage predict depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.evaluation import Prediction, PredictionExecution
from ...config.schema import Config
from ...config.section import Section

VERSION = 3

Execution = PredictionExecution


class Settings(Section):
    """Cases of one data set; the model files themselves hold network, ROIs, patch size and window."""

    run: str
    dataset: str
    cases: tuple[str, ...]
    prediction: Prediction


@dataclass(frozen=True)
class Inputs:
    """The data set's list of cases, whose volumes lie beside it, and the trained network, or several to average."""

    cases: Path
    model: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """Folder of predictions, one NIfTI file per case."""

    predictions: Path


def settings_from(config: Config, run: str, dataset: str) -> Settings:
    """The cases of one data set that a run predicts, and what decides their prediction."""
    return Settings(
        run=run,
        dataset=dataset,
        cases=config.predicted_cases(config.run(run), config.dataset(dataset)),
        prediction=prediction_of(config),
    )


def execution_from(config: Config) -> Execution:
    """How predictions are computed: editing it reruns nothing."""
    return Execution(**{key: getattr(config.inference, key) for key in Execution.model_fields})


def prediction_of(config: Config) -> Prediction:
    """What of section `inference` decides the predictions."""
    return Prediction(**{key: getattr(config.inference, key) for key in Prediction.model_fields})
