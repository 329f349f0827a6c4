"""What stage score_existence depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.existence import Existence
from ...config.optimisation import Execution
from ...config.rois import existence_structures
from ...config.schema import Config
from ...config.section import Section
from ...config.volumes import Patches

VERSION = 1


class Settings(Section):
    """The patch pool of one data set's training cases and its scores.

    `structures` has, for each ROI, the structures whose highest score is the ROI's.
    """

    dataset: str
    cases: tuple[str, ...]
    rois: tuple[str, ...]
    structures: tuple[tuple[str, ...], ...]
    existence: Existence
    patches: Patches
    window_hu: tuple[float, float]
    seed: int


@dataclass(frozen=True)
class Inputs:
    """The data set's list of cases, whose volumes lie beside it; the ROI-aware network, if there is one."""

    cases: Path
    model: Path | None


@dataclass(frozen=True)
class Outputs:
    """Table of pooled patches: data set, case, patch, start index z, y, x, and one score per ROI.

    Without a ROI-aware network the scores are NaN: nothing is known, so every unlabelled ROI is ambiguous.
    """

    scores: Path


def settings_from(config: Config, dataset: str) -> Settings:
    """The training cases of one data set, the pool and the scores."""
    return Settings(
        dataset=dataset,
        cases=config.dataset(dataset).split_cases("train"),
        rois=config.roi_names,
        structures=existence_structures(config.rois),
        existence=config.existence,
        patches=config.patches,
        window_hu=config.volumes.window_hu,
        seed=config.seed,
    )


def execution_from(config: Config) -> Execution:
    """The ROI-aware network runs as in its training, of which `device` counts here: editing it reruns nothing."""
    return config.roi_aware.execution
