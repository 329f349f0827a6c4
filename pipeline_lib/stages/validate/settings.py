"""What stage validate depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.datasets import Dataset
from ...config.schema import Config
from ...config.section import Section
from ..slices import label_targets, regardless_of


class Settings(Section):
    """All data sets; `targets` are the names of the label bits of each, in the same order."""

    datasets: tuple[Dataset, ...]
    targets: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Inputs:
    """The manifest of each data set, in the order of the settings; the raw folders are those they lie in."""

    manifests: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """One row per case that was read; written only if nothing is wrong."""

    cases: Path


def settings_from(config: Config) -> Settings:
    """All data sets with their label bits."""
    datasets = tuple(regardless_of(dataset, "doubted", "licence") for dataset in config.all_datasets)
    return Settings(datasets=datasets, targets=tuple(label_targets(config, dataset.name) for dataset in datasets))
