"""What stage check_existence depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.augmentation import WeakView
from ...config.existence import DecisionRule, Existence
from ...config.methods import decision_rule
from ...config.optimisation import Execution
from ...config.rois import existence_structures
from ...config.schema import Config
from ...config.section import Section
from ...config.sides import roi_partners
from ...config.volumes import Patches
from ..slices import labelled_rois


class Settings(Section):
    """Which existence scores are compared. `cases` are the training cases of every data set.

    `rules` are the methods' distinct ways to decide, each under the names of its methods; `organs` has, for each ROI,
    the ROI whose existence it takes, if that is another one; `mirrors` has the ROIs that flips along x exchange.
    """

    seed: int
    weak: WeakView
    patches: Patches
    existence: Existence
    least_voxels: int
    rules: dict[str, DecisionRule]
    rois: tuple[str, ...]
    organs: tuple[str | None, ...]
    structures: tuple[tuple[str, ...], ...]
    labelled: dict[str, tuple[str, ...]]
    cases: dict[str, tuple[str, ...]]
    window_hu: tuple[float, float]
    mirrors: dict[str, str]


@dataclass(frozen=True)
class Inputs:
    """Lists of cases (volumes lie beside them), existence scores, the ROI-aware network, folders of full truth.

    The folders of `truth` are named by their data sets; a data set may have none.
    """

    cases: tuple[Path, ...]
    existence: tuple[Path, ...]
    model: Path
    truth: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """How often cached and online scores decide alike on training crops; how many decisions are correct."""

    agreement: Path
    decisions: Path


def settings_from(config: Config) -> Settings:
    """The first seed's training crops, all pools, and the decisions of all methods that need existence scores."""
    return Settings(
        seed=config.seeds[0],
        weak=config.augmentation.weak,
        patches=config.patches,
        existence=config.existence,
        least_voxels=config.roi_aware.least_voxels,
        rules=_decision_rules(config),
        rois=config.roi_names,
        organs=tuple(roi.organ for roi in config.rois),
        structures=existence_structures(config.rois),
        labelled=labelled_rois(config),
        cases={dataset.name: dataset.split_cases("train") for dataset in config.datasets.partially_labelled},
        window_hu=config.volumes.window_hu,
        mirrors=roi_partners(config.rois),
    )


def execution_from(config: Config) -> Execution:
    """The ROI-aware network runs as in its training, of which `device` counts here: editing it reruns nothing."""
    return config.roi_aware.execution


def _decision_rules(config: Config) -> dict[str, DecisionRule]:
    """The distinct rules by which methods decide about existence, each under the names of its methods."""
    names: dict[DecisionRule, list[str]] = {}
    for name, method in config.methods.items():
        rule = decision_rule(method)
        if rule is not None:
            names.setdefault(rule, []).append(name)
    return {", ".join(of_rule): rule for rule, of_rule in names.items()}
