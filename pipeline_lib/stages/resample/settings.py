"""What stage resample depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from ...config.datasets import Dataset
from ...config.labelling import Definition, LabelledRule, Labelling, UnknownLabels
from ...config.layouts import AnyLayout
from ...config.schema import Config
from ...config.section import Section, text_without_defaults
from ...config.volumes import Volumes
from ...errors import UserError
from ...files import fingerprint
from ..slices import label_targets

VERSION = 2

CASES_PER_JOB = 10
"""Starting Python costs as much as resampling a small case, and each job costs Snakemake a millisecond and 24 kB."""


class _Shared(Section):
    """What all cases of a data set have in common. `targets` are the names of the label bits, in order."""

    dataset: str
    layout: AnyLayout
    root: str
    labels: dict[str, Definition]
    ignored_labels: tuple[int, ...]
    targets: tuple[str, ...]
    volumes: Volumes
    unknown_labels: UnknownLabels = Field(default={})


class CaseSettings(_Shared):
    """How one raw case becomes a volume.

    `labelled` are the targets that this case labels, or the rule by which its files say that.
    """

    case: str
    labelled: LabelledRule | tuple[str, ...] = Field(default="all")

    @property
    def labelling(self) -> Labelling:
        return Labelling(**{key: getattr(self, key) for key in Labelling.model_fields})

    @property
    def fingerprint(self) -> str:
        """Names what the volume depends on beside the raw files."""
        return fingerprint(str(VERSION), text_without_defaults(self))


class Settings(_Shared):
    """How the raw cases of a batch become volumes.

    `labelled` is the rule by which files say what a case labels, for the cases that are not in `labelled_by_case`.
    """

    labelled: LabelledRule = Field(default="all")
    labelled_by_case: dict[str, tuple[str, ...]] = Field(default={})

    def of_case(self, case: str) -> CaseSettings:
        """What concerns one case, whatever batch it is in."""
        shared = {key: getattr(self, key) for key in _Shared.model_fields}
        return CaseSettings(**shared, case=case, labelled=self.labelled_by_case.get(case, self.labelled))


class Execution(Section):
    """The cases of the batch. Which batch a case is in changes nothing; `lost.py` finds cases that were never made."""

    cases: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """The raw data set's manifest; the raw folder is the one it lies in."""

    manifest: Path


@dataclass(frozen=True)
class Outputs:
    """The list of the batch's volumes, which are folders beside it."""

    batch: Path


_batches: dict[int, tuple[Dataset, dict[str, tuple[str, ...]]]] = {}


def batches_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Number of each batch → its cases. Kept, because sorting all cases for each batch would take long."""
    if id(dataset) not in _batches:
        cases = dataset.used_cases
        starts = range(0, len(cases), CASES_PER_JOB)
        batches = {f"{start // CASES_PER_JOB:04d}": cases[start : start + CASES_PER_JOB] for start in starts}
        # With the data set itself, so that no other one gets its id. (`model_copy` would copy a cached property too.)
        _batches[id(dataset)] = dataset, batches
    return _batches[id(dataset)][1]


def settings_from(config: Config, dataset: str, batch: str) -> Settings:
    """A batch's data set, its layout and labels, and the grid of volumes."""
    chosen = config.dataset(dataset)
    cases = _cases(chosen, batch)
    labelling = chosen.labelling(cases[0])
    by_case = {case: chosen.labelling(case).labelled for case in cases} if not isinstance(chosen.labelled, str) else {}
    return Settings(
        dataset=dataset,
        layout=chosen.layout,
        root=chosen.root,
        labels=labelling.labels,
        ignored_labels=labelling.ignored_labels,
        targets=label_targets(config, dataset),
        volumes=config.volumes,
        unknown_labels=labelling.unknown_labels,
        labelled="present" if chosen.labelled == "present" else "all",
        labelled_by_case={case: rois for case, rois in by_case.items() if isinstance(rois, tuple)},
    )


def execution_from(config: Config, dataset: str, batch: str) -> Execution:
    """The cases of a batch."""
    return Execution(cases=_cases(config.dataset(dataset), batch))


def _cases(dataset: Dataset, batch: str) -> tuple[str, ...]:
    batches = batches_of(dataset)
    if batch not in batches:
        raise UserError(f"data set {dataset.name}", f"has no batch {batch}", f"the last one is {list(batches)[-1]}")
    return batches[batch]
