"""What stage delete_raw depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.datasets import Dataset
from ...config.schema import Config
from ...config.section import Section
from ..slices import regardless_of


class Settings(Section):
    """A data set whose raw files are deleted. `scored_cases` are those whose labels the scores still need."""

    dataset: Dataset
    scored_cases: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """The raw data set's manifest, and the list of its volumes, which lie beside that list."""

    manifest: Path
    cases: Path


@dataclass(frozen=True)
class Outputs:
    """What was deleted, in figures."""

    deleted: Path


def settings_from(config: Config, dataset: str) -> Settings:
    """One data set, and the cases of it that are scored: with `folds` all, else those that test."""
    chosen = config.dataset(dataset)
    scored = chosen.split_cases("test") if config.folds is None else chosen.used_cases
    return Settings(
        dataset=regardless_of(chosen, "split", "doubted", "licence", "patients"),
        scored_cases=scored if chosen in config.datasets.partially_labelled else (),
    )
