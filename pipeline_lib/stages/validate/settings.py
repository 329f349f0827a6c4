"""What stage validate depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from ...config.datasets import Dataset
from ...config.schema import Config
from ...config.section import Section
from ..slices import label_targets, regardless_of


class Settings(Section):
    """All data sets; `targets` are the names of the label bits of each, in the same order.

    `organs` maps each ROI that has one to its organ, `held_out_cases` a fully labelled data set to the number of its
    cases that evaluate the ROI-aware network.
    """

    datasets: tuple[Dataset, ...]
    targets: tuple[tuple[str, ...], ...]
    organs: dict[str, str] = Field(default={})
    held_out_cases: dict[str, int] = Field(default={})


@dataclass(frozen=True)
class Inputs:
    """The manifest of each data set, in the order of the settings; the raw folders are those they lie in."""

    manifests: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """One row per case that was read, with the ROIs that it labels and its notes; written only if there is no fault."""

    cases: Path


def settings_from(config: Config) -> Settings:
    """All data sets with their label bits."""
    datasets = tuple(regardless_of(dataset, "doubted", "licence", "patients") for dataset in config.all_datasets)
    full = config.datasets.fully_labelled
    return Settings(
        datasets=datasets,
        targets=tuple(label_targets(config, dataset.name) for dataset in datasets),
        organs={roi.name: roi.organ for roi in config.rois if roi.organ is not None},
        held_out_cases={full.name: config.roi_aware.held_out_cases(len(full.used_cases))} if full is not None else {},
    )
