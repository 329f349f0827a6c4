"""What stage embed depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.schema import Config
from ...config.section import Section
from ...config.text import TextEncoder
from ..slices import text_encoder

VERSION = 1


class Settings(Section):
    """Prompts and encoder. `tasks` are the ROIs that each data set labels, for DoDNet's one-hot code."""

    rois: tuple[str, ...]
    texts: tuple[str, ...]
    prompt: str
    name: str
    encoder: TextEncoder
    tasks: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Inputs:
    """`weights`: at most one folder, the encoder's weights where stage acquire_encoder fetched them."""

    weights: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """The K×D embeddings."""

    embeddings: Path


def settings_from(config: Config, encoder: str) -> Settings:
    """One encoder and the prompts of all ROIs."""
    chosen = text_encoder(config, encoder)
    return Settings(
        rois=config.roi_names,
        texts=tuple(roi.text for roi in config.rois),
        prompt=config.text.prompt,
        name=encoder,
        encoder=chosen,
        tasks=_tasks(config) if chosen.kind == "one_hot" else (),
    )


def _tasks(config: Config) -> tuple[tuple[str, ...], ...]:
    """The ROIs of each task (one per data set), each ROI in the first data set that labels it."""
    seen: set[str] = set()
    tasks = []
    for dataset in config.datasets.partially_labelled:
        task = tuple(roi for roi in config.roi_names if roi in dataset.labels and roi not in seen)
        seen.update(task)
        if task:
            tasks.append(task)
    return tuple(tasks)
