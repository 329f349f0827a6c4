"""The whole config: loaded, resolved and checked before any job starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ..errors import UserError
from .augmentation import Augmentation
from .datasets import Dataset, PhantomSource
from .error_locations import keys_at, without_tags
from .evaluation import Inference, Scores
from .existence import Existence
from .method_checks import check_methods
from .method_settings import Teacher
from .methods import Method
from .networks import DEFAULT_NETWORKS, Network
from .old_forms import reject_old_methods, reject_old_networks
from .optimisation import Execution, Optimisation
from .phantom import Phantom
from .roi_aware import RoiAware
from .rois import Roi, check_rois
from .section import Name, Section
from .storage import Storage
from .structures import structure_names
from .text import Text
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


class Run(Section):
    """One training: a method with a seed."""

    name: str
    method: str
    seed: int


class Config(Section):
    """Everything that decides what the pipeline makes."""

    seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Seed of the phantom, the patch pool and the ROI-aware network."
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="Seeds with which every method is trained."
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
        check_rois(self.rois)
        _check_labels(self)
        _check_structures(self)
        check_methods(self)
        _check_post_processing(self)
        return self

    @property
    def roi_names(self) -> tuple[str, ...]:
        return tuple(roi.name for roi in self.rois)

    @property
    def all_datasets(self) -> tuple[Dataset, ...]:
        full = self.datasets.fully_labelled
        return (*self.datasets.partially_labelled, *((full,) if full else ()))

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every training that the default target needs; the seed is in the name where there are several."""
        several = len(self.seeds) > 1
        return tuple(
            Run(name=f"{method}-seed{seed}" if several else method, method=method, seed=seed)
            for method in self.compare or self.methods
            for seed in self.seeds
        )

    def dataset(self, name: str) -> Dataset:
        """The data set of this name; UserError if the config uses none."""
        for dataset in self.all_datasets:
            if dataset.name == name:
                return dataset
        used = ", ".join(dataset.name for dataset in self.all_datasets)
        raise UserError("config: datasets", f"has no {name}", f"choose of: {used}")

    def run(self, name: str) -> Run:
        """The training of this name; any method of the config may be asked for, compared or not."""
        method, _, seed = name.partition("-seed")
        if method not in self.methods:
            raise UserError("config: methods", f"has no {method}", f"choose of: {', '.join(self.methods)}")
        return Run(name=name, method=method, seed=int(seed) if seed else self.seeds[0])


def load_config(source: Mapping[str, Any] | Path, base: Path) -> Config:
    """Read, resolve and check a config.

    Parameters
    ----------
    source: a YAML file, or the mapping that Snakemake made of one.
    base: the project's folder; data set names are looked up in its `config/datasets/`.

    Raises
    ------
    UserError: one line that names the first wrong key, what is wrong and what to do.
    """
    where = str(source) if isinstance(source, Path) else "config"
    content = _read_yaml(source) if isinstance(source, Path) else dict(source)
    datasets = content.get("datasets")
    if isinstance(datasets, Mapping):
        content = {**content, "datasets": _load_datasets(datasets, base)}
    return _validated(Config, content, where)


def load_dataset(name: str, base: Path) -> Dataset:
    """Read `config/datasets/NAME.yaml`, or the YAML file that `name` is the path of."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else base / "config" / "datasets" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in (base / "config" / "datasets").glob("*.yaml"))
        raise UserError("config: datasets", f"there is no {path}", f"write that file or choose of: {', '.join(known)}")
    content = _read_yaml(path)
    cases = content.get("cases")
    if isinstance(cases, str):
        listed = path.parent / cases
        if not listed.is_file():
            raise UserError(f"{path}: cases", f"there is no {listed}", "write that list, one case name a line")
        content["cases"] = listed.read_text(encoding="utf-8").split()
    dataset = _validated(Dataset, content, str(path))
    if dataset.name != path.stem:
        raise UserError(f"{path}: name", f"is {dataset.name!r}", f"name the data set as its file, {path.stem!r}")
    return dataset


def _load_datasets(datasets: Mapping[str, Any], base: Path) -> dict[str, Any]:
    resolved = dict(datasets)
    partial = datasets.get("partially_labelled")
    if isinstance(partial, list | tuple):
        resolved["partially_labelled"] = [
            load_dataset(entry, base) if isinstance(entry, str) else entry for entry in partial
        ]
    if isinstance(datasets.get("fully_labelled"), str):
        resolved["fully_labelled"] = load_dataset(datasets["fully_labelled"], base)
    return resolved


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})", "give the path of a YAML file") from error
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise UserError(str(path), f"is not valid YAML ({problem})", "mend the file") from error
    if not isinstance(content, dict):
        raise UserError(str(path), "holds no mapping of keys", "start from config/config.yaml")
    return content


def _validated(model: type[Any], content: Mapping[str, Any], where: str) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _first_problem(error, model, where) from error


def _first_problem(error: ValidationError, model: type[Any], where: str) -> UserError:
    problems = error.errors()
    first = problems[0]
    location = without_tags(model, first["loc"])
    key = ".".join(str(part) for part in location) or "(top level)"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(keys_at(model, first["loc"][:-1])) or "see config/README.md"
        return UserError(f"{where}: {key}", f"is not a known key{more}", f"allowed here: {allowed}")
    if first["type"] == "value_error":
        return UserError(f"{where}: {key}", f"{first['ctx']['error']}{more}", "see config/README.md for the key")
    given = f", given {first['input']!r}" if not isinstance(first["input"], Mapping | Section) else ""
    return UserError(f"{where}: {key}", f"{first['msg']}{given}{more}", "see config/README.md for the key")


def _check_labels(config: Config) -> None:
    names = [dataset.name for dataset in config.all_datasets]
    if len(set(names)) != len(names):
        raise ValueError(f"datasets: a data set is named twice in {names}")
    labelled: set[str] = set()
    for dataset in config.datasets.partially_labelled:
        unknown = sorted(set(dataset.labels) - set(config.roi_names))
        if unknown:
            raise ValueError(
                f"data set {dataset.name} labels {', '.join(unknown)}, which is in no list of ROIs "
                f"(`rois` has: {', '.join(config.roi_names)})"
            )
        if not dataset.labels:
            raise ValueError(f"data set {dataset.name} labels no ROI, so it cannot train a segmentation network")
        if not dataset.used_cases:
            raise ValueError(f"data set {dataset.name} has no case that is not skipped")
        if dataset.split_cases("train"):
            labelled |= set(dataset.labels)
    never = [name for name in config.roi_names if name not in labelled]
    if never:
        raise ValueError(
            f"no data set with training cases labels {', '.join(never)}: remove it from `rois` or add a data set"
        )
    if not any(dataset.split_cases("test") for dataset in config.datasets.partially_labelled):
        raise ValueError("no data set has a test case, so nothing could be scored: see `split` of the data sets")
    if config.scores.truth == "full" and not all(
        isinstance(dataset.source, PhantomSource) for dataset in config.datasets.partially_labelled
    ):
        raise ValueError("`scores.truth: full` needs phantom data sets only; real ones have labelled ROIs alone")


def _check_structures(config: Config) -> None:
    known = structure_names(config.roi_aware.structures)
    for roi in config.rois:
        unknown = sorted(set(roi.structures) - set(known))
        if unknown:
            raise ValueError(f"ROI {roi.name}: {', '.join(unknown)} is no structure of `roi_aware.structures`")


def _check_post_processing(config: Config) -> None:
    unknown = sorted(set(config.inference.post_processing) - set(config.roi_names))
    if unknown:
        raise ValueError(
            f"`inference.post_processing` names {', '.join(unknown)}; `rois` has: {', '.join(config.roi_names)}"
        )
