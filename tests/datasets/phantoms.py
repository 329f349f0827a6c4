"""Small phantom data sets for tests: the project's own data set files, with fewer and coarser cases."""

from __future__ import annotations

from pathlib import Path

from pipeline_lib.config.loading import load_dataset
from pipeline_lib.config.phantom import Phantom
from pipeline_lib.datasets.phantom.generate import PhantomDataset

PROJECT = Path(__file__).parents[2]
ROIS = (
    "liver",
    "liver_tumor",
    "kidney",
    "kidney_tumor",
    "hepatic_vessel",
    "hepatic_vessel_tumor",
    "pancreas",
    "pancreas_tumor",
    "colon_cancer",
    "lung_tumor",
    "spleen",
)
PARTIAL = tuple(
    f"phantom_{name}" for name in ("liver", "kits", "hepatic_vessel", "pancreas", "colon", "lung", "spleen")
)


def phantom_settings(name: str, seed: int = 0, cases: int = 3, spacing=(8.0, 8.0, 8.0), source=None, **phantom):
    """Settings of `config/datasets/NAME.yaml` with `cases` cases at `spacing` (x, y, z) in mm.

    `source` replaces fields of the data set's source, `phantom` those of the benchmark's difficulty.
    """
    dataset = load_dataset(name, PROJECT)
    changed = dataset.source.model_copy(update={"cases": cases, "spacing_mm": spacing, **(source or {})})
    return PhantomDataset(
        dataset=dataset.model_copy(update={"source": changed}),
        phantom=Phantom(**phantom),
        rois=ROIS,
        seed=seed,
    )
