"""Pieces of the config that the settings of several stages share."""

from __future__ import annotations

from typing import Any

from ..config.datasets import Dataset, DownloadSource
from ..config.schema import Config
from ..config.sources import without_sizes
from ..config.structures import structure_names
from ..config.text import TextEncoder
from ..errors import UserError


def regardless_of(dataset: Dataset, *keys: str) -> Dataset:
    """The data set with `keys` at neutral values, and without the sizes that only the check of the disk reads."""
    neutral: dict[str, Any] = {
        **{"split": "all_training", "skip": (), "doubted": (), "licence": ""},
        **{"labelled": "all", "unknown_labels": {}, "patients": {}},
    }
    if dataset.has_no_labels:
        # That there are no label files is not a matter of which case labels what.
        neutral["labelled"] = dataset.labelled
    update = {key: neutral[key] for key in keys}
    if isinstance(dataset.source, DownloadSource):
        update["source"] = without_sizes(dataset.source)
    return dataset.model_copy(update=update)


def label_targets(config: Config, dataset: str) -> tuple[str, ...]:
    """Names of the label bits of a data set's volumes: structures if it is the fully labelled one, else ROIs."""
    full = config.datasets.fully_labelled
    if full is not None and dataset == full.name:
        return structure_names(config.roi_aware.structures)
    return config.roi_names


def labelled_rois(config: Config) -> dict[str, tuple[str, ...]]:
    """Partially labelled data set → the ROIs that it labels in some case, in the order of the config."""
    datasets = config.datasets.partially_labelled
    return {dataset.name: tuple(sorted(dataset.labels, key=config.roi_names.index)) for dataset in datasets}


def text_encoder(config: Config, name: str) -> TextEncoder:
    """The text encoder of this name; UserError if the config has none."""
    if name not in config.text.encoders:
        known = ", ".join(config.text.encoders)
        raise UserError("config: text.encoders", f"unknown encoder {name}", f"choose from: {known}")
    return config.text.encoders[name]
