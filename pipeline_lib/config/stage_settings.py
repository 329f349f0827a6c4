"""The settings of each stage: the slice of the config that it depends on, and nothing more."""

from __future__ import annotations

from .augmentation import Augmentation, WeakView
from .datasets import Dataset, Layout, SkippedCase
from .evaluation import Inference, Scores
from .existence import Existence
from .methods import Method, Networks, Teacher
from .optimisation import Execution, Optimisation
from .phantom import Phantom
from .roi_aware import RoiAware
from .section import Section
from .text import TextEncoder
from .training_setup import TrainingSetup
from .volumes import Patches, Volumes

Cases = dict[str, tuple[str, ...]]
"""Data set → names of its cases."""


class AcquireSettings(Section):
    """Where a data set comes from; for a phantom also what it looks like."""

    dataset: Dataset
    phantom: Phantom | None
    rois: tuple[str, ...]
    seed: int | None


class AcquireExecution(Section):
    """Cases that are not fetched, and whether archives stay. Kept apart: editing it must not remake every volume."""

    skip: tuple[SkippedCase, ...] = ()
    keep_archives: bool = True


class DeleteRawSettings(Section):
    """A data set whose raw files go. `scored_cases` are those whose labels the scores still need."""

    dataset: Dataset
    scored_cases: tuple[str, ...]


class VolumeSettings(Section):
    """How one raw case becomes a volume. `targets` are the names of its label bits, in order."""

    dataset: str
    layout: Layout
    root: str
    labels: dict[str, tuple[int, ...]]
    ignored_labels: tuple[int, ...]
    case: str
    targets: tuple[str, ...]
    volumes: Volumes


class ValidateSettings(Section):
    """All data sets; `targets` are those of each, in the same order."""

    datasets: tuple[Dataset, ...]
    targets: tuple[tuple[str, ...], ...]


class CaseListSettings(Section):
    """The cases of one data set by their part of the split. `targets` are the names of the label bits, in order."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    targets: tuple[str, ...]


class TextSettings(Section):
    """Prompts and encoder. `tasks` are the ROIs that each data set labels, for DoDNet's one-hot code."""

    rois: tuple[str, ...]
    texts: tuple[str, ...]
    prompt: str
    name: str
    encoder: TextEncoder
    tasks: tuple[tuple[str, ...], ...]


class AcquireEncoderSettings(Section):
    """The text encoder whose weights are fetched beforehand."""

    name: str
    encoder: TextEncoder


class RoiAwareSettings(Section):
    """Training of the ROI-aware network on the cases of the fully labelled data set."""

    dataset: str
    cases: tuple[str, ...]
    structures: tuple[str, ...]
    roi_aware: RoiAware
    patches: Patches
    weak: WeakView
    window_hu: tuple[float, float]
    seed: int


class ExistenceSettings(Section):
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


class ExistenceCheckSettings(Section):
    """Whose existence scores are held against what. `cases` are the training cases of every data set.

    `rules` are the methods' distinct ways to decide, each under the names of its methods; `organs` has, for each ROI,
    the ROI whose existence it takes, if that is another one.
    """

    seed: int
    weak: WeakView
    patches: Patches
    existence: Existence
    least_voxels: int
    rules: dict[str, Method]
    rois: tuple[str, ...]
    organs: tuple[str | None, ...]
    structures: tuple[tuple[str, ...], ...]
    labelled: dict[str, tuple[str, ...]]
    cases: Cases
    window_hu: tuple[float, float]


class SegmentationSettings(Section):
    """One training of one method. `cases` are the training cases of every data set."""

    run: str
    seed: int
    method: Method
    networks: Networks
    teacher: Teacher
    optimisation: Optimisation
    augmentation: Augmentation
    patches: Patches
    existence: Existence
    rois: tuple[str, ...]
    structures: tuple[tuple[str, ...], ...]
    labelled: dict[str, tuple[str, ...]]
    cases: Cases
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]


class ExecutionSettings(Section):
    """How a training runs. Kept apart from what it learns: editing it reruns nothing."""

    execution: Execution


class InferenceSettings(Section):
    """Test cases of one data set; the model file itself holds network, ROIs, patch size and window."""

    run: str
    dataset: str
    cases: tuple[str, ...]
    inference: Inference


class ScoreSettings(Section):
    """Which predictions are held against which truth."""

    run: str
    rois: tuple[str, ...]
    datasets: tuple[Dataset, ...]
    scores: Scores


class ReportSettings(Section):
    """What the report compares.

    `runs` are (run, method, seed), `methods` those that are compared; `fingerprint` is a short name of every setting
    that a number in the report depends on.
    """

    rois: tuple[str, ...]
    runs: tuple[tuple[str, str, int], ...]
    methods: dict[str, Method]
    datasets: tuple[Dataset, ...]
    scores: Scores
    structures: tuple[tuple[str, ...], ...]
    setup: TrainingSetup
    fingerprint: str
