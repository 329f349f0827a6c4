"""What stage resample depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from ...config.labelling import Definition, LabelledRule, Labelling, UnknownLabels
from ...config.layouts import AnyLayout
from ...config.schema import Config
from ...config.section import Section
from ...config.volumes import Volumes
from ..slices import label_targets

VERSION = 2


class Settings(Section):
    """How one raw case becomes a volume. `targets` are the names of its label bits, in order.

    `labelled` are the targets that this case labels, or the rule by which its files say that.
    """

    dataset: str
    layout: AnyLayout
    root: str
    labels: dict[str, Definition]
    ignored_labels: tuple[int, ...]
    case: str
    targets: tuple[str, ...]
    volumes: Volumes
    unknown_labels: UnknownLabels = Field(default={})
    labelled: LabelledRule | tuple[str, ...] = Field(default="all")

    @property
    def labelling(self) -> Labelling:
        return Labelling(**{key: getattr(self, key) for key in Labelling.model_fields})


@dataclass(frozen=True)
class Inputs:
    """The raw data set's manifest; the raw folder is the one it lies in."""

    manifest: Path


@dataclass(frozen=True)
class Outputs:
    """The three files of a volume."""

    image: Path
    labels: Path
    record: Path


def settings_from(config: Config, dataset: str, case: str) -> Settings:
    """One case, its data set's layout and labels, and the grid of volumes."""
    chosen = config.dataset(dataset)
    labelling = chosen.labelling(case)
    return Settings(
        dataset=dataset,
        layout=chosen.layout,
        root=chosen.root,
        labels=labelling.labels,
        ignored_labels=labelling.ignored_labels,
        case=case,
        targets=label_targets(config, dataset),
        volumes=config.volumes,
        unknown_labels=labelling.unknown_labels,
        labelled=labelling.labelled,
    )
