"""What stage predict depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.evaluation import Prediction, PredictionExecution
from ...config.schema import Config
from ...config.section import Section

VERSION = 2

Execution = PredictionExecution


class Settings(Section):
    """Test cases of one data set; the model file itself holds network, ROIs, patch size and window."""

    run: str
    dataset: str
    cases: tuple[str, ...]
    prediction: Prediction


@dataclass(frozen=True)
class Inputs:
    """The data set's list of cases, whose volumes lie beside it, and the trained network."""

    cases: Path
    model: Path


@dataclass(frozen=True)
class Outputs:
    """Folder of predictions, one NIfTI file per case."""

    predictions: Path


def settings_from(config: Config, run: str, dataset: str) -> Settings:
    """The test cases of one data set, and what decides their prediction."""
    config.run(run)
    return Settings(
        run=run,
        dataset=dataset,
        cases=config.dataset(dataset).split_cases("test"),
        prediction=prediction_of(config),
    )


def execution_from(config: Config) -> Execution:
    """How predictions are computed: editing it reruns nothing."""
    return Execution(**{key: getattr(config.inference, key) for key in Execution.model_fields})


def prediction_of(config: Config) -> Prediction:
    """What of section `inference` decides the predictions."""
    return Prediction(**{key: getattr(config.inference, key) for key in Prediction.model_fields})
