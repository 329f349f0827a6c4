"""What stage list_cases depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.schema import Config
from ...config.section import Section
from ...config.volumes import Volumes
from ..slices import label_targets

VERSION = 2


class Settings(Section):
    """The cases of one data set by their part of the split, and how their volumes must have been made.

    `targets` are the names of the label bits, in order.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    targets: tuple[str, ...]
    volumes: Volumes


@dataclass(frozen=True)
class Inputs:
    """The folder that holds a folder for each case."""

    volume_folder: Path


@dataclass(frozen=True)
class Outputs:
    """One row per used case."""

    cases: Path


def settings_from(config: Config, dataset: str) -> Settings:
    """The split of one data set."""
    chosen = config.dataset(dataset)
    return Settings(
        train=chosen.split_cases("train"),
        test=chosen.split_cases("test"),
        targets=label_targets(config, dataset),
        volumes=config.volumes,
    )
