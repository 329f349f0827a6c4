"""What stage train depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from pydantic import Field

from ...config.augmentation import Augmentation
from ...config.datasets import Dataset
from ...config.existence import Existence
from ...config.method_settings import Teacher
from ...config.methods import Method
from ...config.networks import Network
from ...config.optimisation import Execution, Optimisation
from ...config.pseudo_labels import Share
from ...config.rois import existence_structures
from ...config.schema import Config
from ...config.section import Section
from ...config.sides import roi_partners
from ...config.validation import (
    Validation,
    cases_of_method,
    cases_that_teach,
    cases_with_labels,
    held_out_cases,
    learned_cases,
)
from ...config.volumes import Patches
from ...errors import UserError
from ...randomness import random_generator
from ..slices import labelled_rois

VERSION = 2


class Settings(Section):
    """One training of one method.

    `cases` are the training cases of every data set that has some, and `held_out` those that only `validation` uses.
    `mirrors` has the ROIs that flips along x exchange, both ways. They are part of every model, flipped in training or
    not, because its mirrored windows need them.
    """

    run: str
    seed: int
    method: Method
    network: Network
    teacher: Teacher
    optimisation: Optimisation
    augmentation: Augmentation
    patches: Patches
    existence: Existence
    rois: tuple[str, ...]
    structures: tuple[tuple[str, ...], ...]
    labelled: dict[str, tuple[str, ...]]
    cases: dict[str, tuple[str, ...]]
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    mirrors: dict[str, str] = Field(default={})
    validation: Validation = Validation()
    held_out: dict[str, tuple[str, ...]] = Field(default={})


class TrainingExecution(Execution):
    """How the training runs, and after which shares of it the teacher is kept: nothing here changes what is learned.

    `left_out` counts the cases without labels that the method does not learn from, for the log.
    """

    snapshots: tuple[Share, ...] = ()
    left_out: int = 0


@dataclass(frozen=True)
class Inputs:
    """Lists of cases (their volumes lie beside them) and existence scores of the data sets; the ROIs' embeddings.

    The ROI-aware network is needed only where existence.mode is online. The file that a training starts from is read
    where the method's settings name it.
    """

    cases: tuple[Path, ...]
    existence: tuple[Path, ...]
    embeddings: Path
    roi_aware_model: Path | None


@dataclass(frozen=True)
class Outputs:
    """The trained network, and what happened on the way, one line of JSON per few steps."""

    model: Path
    history: Path

    @property
    def teachers(self) -> Path:
        """Folder of the teacher's snapshots, where the execution asks for them; empty if no teacher teaches.

        It is not on the command line, which is the same with snapshots and without, so that nothing is trained again.
        """
        return self.model.parent / "teachers"


def settings_from(config: Config, run: str) -> Settings:
    """One method with one seed, and all data that it learns from; UserError if the run is not a single training."""
    training = config.run(run)
    if training.seed is None or training.average:
        raise UserError("config: methods", f"{run} is an average", "train one of its members")
    method = config.methods[training.method]
    held_out = held_out_cases(config, training.fold)
    # A data set that only tests is not learned from, so that adding one trains nothing again.
    cases = {
        name: _drawn_cases(config.dataset(name), learned, method, training.seed)
        for name, learned in cases_of_method(config, method, training.fold).items()
    }
    return Settings(
        run=run,
        seed=training.seed,
        method=method,
        network=config.networks[method.network],
        # Defaults stand for what the method does not use, so that editing it retrains only the others.
        teacher=config.teacher if method.needs_teacher else Teacher(),
        optimisation=config.segmentation,
        augmentation=config.augmentation,
        patches=config.patches,
        # Not how many patches are scored at once.
        existence=Existence(mode=config.existence.mode) if method.needs_existence else Existence(),
        rois=config.roi_names,
        structures=existence_structures(config.rois),
        labelled={name: rois for name, rois in labelled_rois(config).items() if name in cases},
        cases=cases,
        spacing_mm=config.volumes.spacing_mm,
        window_hu=config.volumes.window_hu,
        mirrors=roi_partners(config.rois),
        # Without held-out cases no other key of it has an effect.
        validation=config.validation if held_out else Validation(),
        held_out=held_out,
    )


def execution_from(config: Config, run: str) -> TrainingExecution:
    """How the training runs: editing it reruns nothing."""
    training = config.run(run)
    method = config.methods[training.method]
    left_out = sum(
        len(cases) - len(cases_that_teach(config.dataset(name), cases, method))
        for name, cases in learned_cases(config, training.fold).items()
    )
    return TrainingExecution(
        **config.execution.model_dump(), snapshots=config.pseudo_labels.snapshots, left_out=left_out
    )


def _drawn_cases(dataset: Dataset, cases: tuple[str, ...], method: Method, seed: int) -> tuple[str, ...]:
    """Those of `cases` that `method` learns from, as many as there are `cases`.

    Fewer labelled cases are repeated in place of the other labelled ones: the training is as long and every data set
    has its share of it. Every method draws the same, also where it learns from cases without labels too, and what is
    drawn for few cases is part of what is drawn for more.
    """
    if dataset.name not in method.labelled_cases:
        return cases
    labelled, unlabelled = cases_with_labels(dataset, cases), dataset.unlabelled_cases
    order = random_generator("labelled cases", seed, dataset.name).permutation(len(labelled))
    kept = [labelled[index] for index in order[: method.labelled_cases[dataset.name]]]
    return (*islice(cycle(kept), len(labelled)), *(case for case in cases if case in unlabelled))
