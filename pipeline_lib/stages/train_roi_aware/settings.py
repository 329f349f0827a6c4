"""What stage train_roi_aware depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from ...config.augmentation import WeakView
from ...config.optimisation import Execution
from ...config.roi_aware import RoiAware
from ...config.schema import Config
from ...config.section import Section
from ...config.sides import structure_mirrors
from ...config.structures import structure_names
from ...config.volumes import Patches
from ...errors import UserError

VERSION = 3


class Settings(Section):
    """Training of the ROI-aware network on the cases of the fully labelled data set.

    `roi_aware.execution` has its defaults here, whatever the config says: see `Execution`. `mirrors` has the structures
    with a side and their partners (None: there is none) where patches are flipped along x.
    """

    dataset: str
    cases: tuple[str, ...]
    structures: tuple[str, ...]
    roi_aware: RoiAware
    patches: Patches
    weak: WeakView
    window_hu: tuple[float, float]
    seed: int
    mirrors: dict[str, str | None] = Field(default={})


@dataclass(frozen=True)
class Inputs:
    """The fully labelled data set's list of cases, whose volumes lie beside it."""

    cases: Path


@dataclass(frozen=True)
class Outputs:
    """The trained network, its metrics on held-out cases, and the training's history."""

    model: Path
    metrics: Path
    history: Path


def settings_from(config: Config) -> Settings:
    """The ROI-aware network, its data and weak views; UserError if there is no fully labelled data set."""
    dataset = config.datasets.fully_labelled
    if dataset is None:
        raise UserError("config: datasets.fully_labelled", "is missing", "name the data set of the ROI-aware network")
    structures, weak = structure_names(config.roi_aware.structures), config.augmentation.weak
    return Settings(
        dataset=dataset.name,
        cases=dataset.used_cases,
        structures=structures,
        roi_aware=config.roi_aware.model_copy(update={"execution": Execution()}),
        patches=config.patches,
        weak=weak,
        window_hu=config.volumes.window_hu,
        seed=config.seed,
        mirrors=structure_mirrors(structures) if weak.flip_probability[0] else {},
    )


def execution_from(config: Config) -> Execution:
    """How the training runs: editing it reruns nothing."""
    return config.roi_aware.execution
