"""The whole config, and the checks of what its sections say together."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..errors import UserError
from .augmentation import Augmentation
from .datasets import ARCHIVE_ENDINGS, Dataset, DownloadSource, PhantomSource
from .evaluation import Inference, Scores
from .existence import Existence
from .folds import check_folds, fold_of_cases, out_of_fold_cases
from .layouts import published
from .method_checks import check_methods, lacking_for
from .method_settings import Teacher
from .methods import Method
from .networks import DEFAULT_NETWORKS, Network
from .old_forms import reject_old_methods, reject_old_networks
from .optimisation import Execution, Optimisation
from .phantom import Phantom
from .pseudo_labels import PseudoLabelCheck
from .roi_aware import RoiAware
from .rois import Roi, check_rois
from .runs import Run, members, read_run
from .section import Name, Section
from .sides import check_sides
from .storage import Storage
from .structures import structure_names
from .text import Text
from .validation import Validation, check_held_out
from .volumes import Patches, Volumes


class Datasets(Section):
    """Which data sets are used, by the names of their files under config/datasets/."""

    partially_labelled: tuple[Dataset, ...] = Field(
        min_length=1,
        description="Partially labelled data sets that train and test the segmentation networks.",
    )
    fully_labelled: Dataset | None = Field(
        default=None, description="Fully labelled data set that trains the ROI-aware network."
    )

    @field_validator("partially_labelled")
    @classmethod
    def _without_labels(cls, datasets: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
        """Empty `labels` mean no labels here; in a fully labelled data set, that structures have their own names."""
        return tuple(dataset if dataset.labels else dataset.without_labels() for dataset in datasets)

    @field_validator("fully_labelled")
    @classmethod
    def _with_labels(cls, dataset: Dataset | None) -> Dataset | None:
        if dataset is None or dataset.labels:
            return dataset
        if dataset.has_no_labels or not published(dataset.layout).files.has_masks:
            raise ValueError(
                f"data set {dataset.name} labels nothing, and the fully labelled data set must label its structures: "
                "`labels` must say which label values make which structure"
            )
        return dataset


class Config(Section):
    """Everything that decides what the pipeline makes."""

    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Seed of the phantom, the patch pool and the ROI-aware network."
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="Seeds with which every method is trained."
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="Cross-validation: each data set's training cases are split into so many folds, by patient (null: "
        "none). Every method is trained once per seed and fold, without the fold's cases, and scored on them; test "
        "cases, which are optional then, are predicted with the average of a seed's folds.",
    )
    ensemble: bool = Field(
        default=False,
        description="Whether the report has a row for each method's ensemble too: test cases are predicted with the "
        "average of all its seeds (and folds).",
    )
    rois: tuple[Roi, ...] = Field(min_length=1, max_length=64, description="ROIs; the order is that of all labels.")
    datasets: Datasets
    storage: Storage = Storage()
    phantom: Phantom = Phantom()
    volumes: Volumes = Volumes()
    patches: Patches = Patches()
    text: Text
    augmentation: Augmentation = Augmentation()
    roi_aware: RoiAware = RoiAware()
    existence: Existence = Existence()
    networks: Annotated[dict[Name, Network], BeforeValidator(reject_old_networks)] = Field(
        default=DEFAULT_NETWORKS,
        description="Segmentation networks by the name that methods use.",
    )
    teacher: Teacher = Teacher()
    segmentation: Optimisation = Field(default=Optimisation(), description="Training of the segmentation networks.")
    execution: Execution = Field(default=Execution(), description="How segmentation training runs.")
    validation: Validation = Validation()
    pseudo_labels: PseudoLabelCheck = PseudoLabelCheck()
    methods: Annotated[dict[Name, Method], BeforeValidator(reject_old_methods)] = Field(
        min_length=1, description="Methods by name."
    )
    compare: tuple[Name, ...] = Field(
        default=(), description="Methods that the default target trains and reports (empty: all)."
    )
    inference: Inference = Inference()
    scores: Scores = Scores()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        available = structure_names(self.roi_aware.structures)
        check_rois(self.rois, available, need_existence=self.datasets.fully_labelled is not None)
        _check_labels(self)
        for dataset in self.all_datasets:
            _check_patients(dataset)
        check_sides(self)
        check_methods(self)
        check_folds(self)
        check_held_out(self)
        _check_post_processing(self)
        return self

    @property
    def roi_names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)

    @property
    def unlabelled_rois(self) -> tuple[str, ...]:
        """ROIs that no training case labels: only a training that starts from a model can keep them."""
        labelled = set().union(*(dataset.rois_to_learn for dataset in self.datasets.partially_labelled))
        return tuple(name for name in self.roi_names if name not in labelled)

    @property
    def all_datasets(self) -> tuple[Dataset, ...]:
        full = self.datasets.fully_labelled
        return (*self.datasets.partially_labelled, *((full,) if full else ()))

    @property
    def has_test_cases(self) -> bool:
        """Whether some data set has a test case; `folds` can do without any."""
        return any(dataset.split_cases("test") for dataset in self.datasets.partially_labelled)

    @property
    def trainings(self) -> tuple[Run, ...]:
        """Every training that the default target needs: of each method and seed one, or one per fold."""
        return tuple(training for run in self._by_seed for training in members(self, run))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Everything that predicts the test cases: of each method and seed a training or the average of its folds.

        The ensembles, where they are asked for, come last. None where no data set has a test case.
        """
        if not self.has_test_cases:
            return ()
        ensembles = self.compare or self.methods if self.ensemble else ()
        return (*self._by_seed, *(Run.of_ensemble(method) for method in ensembles))

    @property
    def _by_seed(self) -> tuple[Run, ...]:
        methods, average = self.compare or self.methods, self.folds is not None
        return tuple(Run.of(method, seed, average=average) for method in methods for seed in self.seeds)

    def dataset(self, name: str) -> Dataset:
        """The data set of this name; UserError if the config uses none."""
        for dataset in self.all_datasets:
            if dataset.name == name:
                return dataset
        used = ", ".join(dataset.name for dataset in self.all_datasets)
        raise UserError("config: datasets", f"unknown data set {name}", f"choose from: {used}")

    def run(self, name: str) -> Run:
        """The run of this name, of any method of the config, compared or not, and of any seed.

        UserError: the name has another form, or the config has no such method or fold or not what that needs.
        """
        run = read_run(name)
        if run is None:
            wrong, remedy = f"{name} is not the name of a run", f"write METHOD-seedSEED, as {self._by_seed[0].name}"
            raise UserError("config: methods", wrong, remedy)
        if run.method not in self.methods:
            raise UserError(
                "config: methods", f"unknown method {run.method}", f"choose from: {', '.join(self.methods)}"
            )
        lacking = lacking_for(self, self.methods[run.method])
        if lacking is not None:
            raise UserError("config: methods", f"{run.method} {lacking[0]}", lacking[1])
        if (run.average or run.fold is not None) and (run.fold or 0) >= (self.folds or 0):
            remedy = f"name a fold from 0 to {self.folds - 1}" if self.folds else "set it"
            raise UserError("config: folds", f"is {self.folds or 'not set'}, so there is no {name}", remedy)
        return run

    @cached_property
    def fold_of_cases(self) -> Mapping[str, Mapping[str, int]]:
        """Partially labelled data set → training case → the fold that holds it out; nothing without `folds`."""
        return fold_of_cases(self)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As Pydantic's, without the split into folds that this config has cached: the copy may have another."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("fold_of_cases", None)
        return copy

    def predicted_cases(self, run: Run, dataset: Dataset) -> tuple[str, ...]:
        """The cases of a data set that a run predicts: the test cases, or those that its fold holds out.

        UserError: it predicts test cases, and no data set has any.
        """
        if run.fold is not None:
            return out_of_fold_cases(self, dataset.name, run.fold)
        if not self.has_test_cases:
            wrong = f"no data set has a test case, which {run.name} would predict"
            raise UserError("config: datasets", wrong, f"name a training with a fold, as {self.trainings[0].name}")
        return dataset.split_cases("test")


def _check_labels(config: Config) -> None:
    names = [dataset.name for dataset in config.all_datasets]
    if len(set(names)) != len(names):
        raise ValueError(f"datasets: a data set is named twice in {names}")
    for dataset in config.datasets.partially_labelled:
        unknown = sorted(set(dataset.labels) - set(config.roi_names))
        if unknown:
            raise ValueError(
                f"data set {dataset.name} labels {', '.join(unknown)}, which `rois` does not define "
                f"(it has: {', '.join(config.roi_names)})"
            )
        if not dataset.used_cases:
            raise ValueError(f"data set {dataset.name} skips all its cases")
        if dataset.has_no_labels and (test := dataset.split_cases("test")):
            raise ValueError(
                f"data set {dataset.name} has no labels, so its test cases ({test[0]} …) could not be scored: write "
                "`split: all_training` in it, or define `labels`"
            )
    if config.unlabelled_rois and all(method.start_from is None for method in config.methods.values()):
        never = ", ".join(config.unlabelled_rois)
        raise ValueError(f"no data set with training cases labels {never}: remove it from `rois` or add a data set")
    if not config.has_test_cases and config.folds is None:
        raise ValueError(
            "no data set has a test case, so nothing could be scored: set `folds`, which scores training cases out of "
            "fold, or see `split` of the data sets"
        )
    if config.scores.truth == "full" and not all(
        isinstance(dataset.source, PhantomSource)
        for dataset in config.datasets.partially_labelled
        if not dataset.has_no_labels
    ):
        raise ValueError("`scores.truth: full` needs phantom data sets only; real ones have labelled ROIs alone")


def _check_patients(dataset: Dataset) -> None:
    """ValueError if a data set uses patients that its collection does not have or that are of no use."""
    table = published(dataset.layout).patients
    if table is None or isinstance(dataset.source, PhantomSource):
        return
    known = table()
    for case in dataset.used_cases:
        if case not in known:
            raise ValueError(
                f"data set {dataset.name}: there is no case {case}; cases are {min(known)} to {max(known)}"
            )
        if known[case].excluded:
            raise ValueError(
                f"data set {dataset.name}: {case} cannot be used ({known[case].excluded}); take it out of `cases`"
            )
    source = dataset.source
    if isinstance(source, DownloadSource) and (
        source.per_case or len(source.files) != 1 or not source.files[0].path.lower().endswith(ARCHIVE_ENDINGS)
    ):
        raise ValueError(
            f"data set {dataset.name}: layout {dataset.layout} is read from one archive; give that alone under `files`"
        )


def _check_post_processing(config: Config) -> None:
    unknown = sorted(set(config.inference.post_processing) - set(config.roi_names))
    if unknown:
        raise ValueError(
            f"`inference.post_processing` names {', '.join(unknown)}; `rois` has: {', '.join(config.roi_names)}"
        )
