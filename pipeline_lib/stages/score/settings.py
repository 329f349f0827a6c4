"""What stage score depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from ...config.datasets import Dataset
from ...config.evaluation import Scores
from ...config.schema import Config
from ...config.section import Section
from ..slices import regardless_of


class Settings(Section):
    """Which predictions are compared with which truth; `organs` maps each ROI that lies in an organ to it.

    `cases` has those of each data set that the run predicts.
    """

    run: str
    rois: tuple[str, ...]
    organs: dict[str, str] = Field(default={})
    datasets: tuple[Dataset, ...]
    cases: dict[str, tuple[str, ...]]
    scores: Scores


@dataclass(frozen=True)
class Inputs:
    """A folder of predictions and the truth of each data set with predicted cases, in the same order."""

    predictions: tuple[Path, ...]
    truth: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """The table of scores, a row per case and ROI, and that of confusion, a row per case and two ROIs."""

    scores: Path
    confusion: Path


def settings_from(config: Config, run: str) -> Settings:
    """One run, and every data set of which it predicts cases."""
    predicting = config.run(run)
    cases = {
        dataset.name: predicted
        for dataset in config.datasets.partially_labelled
        if (predicted := config.predicted_cases(predicting, dataset))
    }
    return Settings(
        run=run,
        rois=config.roi_names,
        organs={roi.name: roi.organ for roi in config.rois if roi.organ is not None},
        datasets=tuple(
            regardless_of(dataset, "split", "doubted", "licence", "patients")
            for dataset in config.datasets.partially_labelled
            if dataset.name in cases
        ),
        cases=cases,
        scores=config.scores,
    )
