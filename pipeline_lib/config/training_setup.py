"""How the compared methods were trained, in the few facts that a report states."""

from __future__ import annotations

from pydantic import Field

from .schema import Config
from .section import Section
from .validation import cases_with_labels, held_out_cases, learned_cases


class TrainingSetup(Section):
    """`patch_voxels` and `spacing_mm` are in the order of the config; `networks` has the size of each, in words.

    `held_out` counts the training cases of each data set that only validation uses, and `labelled` those with labels
    that are learned from; with `folds` they differ from fold to fold and are not counted.
    """

    batch_size: int
    patch_voxels: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    networks: dict[str, str]
    held_out: dict[str, int] = Field(default={})
    labelled: dict[str, int] = Field(default={})
    folds: int | None = None


def training_setup(config: Config) -> TrainingSetup:
    """The setup of all runs of a config."""
    used = dict.fromkeys(config.methods[run.method].network for run in config.trainings)
    held_out, learned = ({}, {}) if config.folds is not None else (held_out_cases(config), learned_cases(config))
    return TrainingSetup(
        batch_size=config.segmentation.batch_size,
        patch_voxels=config.patches.size_voxels,
        spacing_mm=config.volumes.spacing_mm,
        networks={name: _in_words(config.networks[name]) for name in used},
        held_out={dataset: len(cases) for dataset, cases in held_out.items()},
        labelled={name: len(cases_with_labels(config.dataset(name), cases)) for name, cases in learned.items()},
        folds=config.folds,
    )


def _in_words(network: Section) -> str:
    """Sizes as "feature_size 12, depths 1-1"; of switches and choices those that are not at their default."""
    fields = type(network).model_fields
    words = (
        f"{key} {'-'.join(map(str, value)) if isinstance(value, tuple) else value}"
        for key, value in network
        if key != "kind" and (isinstance(value, tuple) or type(value) is int or value != fields[key].default)
    )
    return ", ".join(words)
