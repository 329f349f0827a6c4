"""How much disk the data of a config takes, so that a full disk is met before the first job and not in its middle."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..errors import UserError
from .config import Config
from .datasets import Dataset, DownloadSource, PhantomSource

# A torso's field of view in mm³, and the bytes that a voxel of it takes: two in a raw case, about one after the
# window and the compression of a volume (measured: benchmarks/store.py).
_FIELD_OF_VIEW_MM3 = 400.0 * 400.0 * 450.0
_RAW_BYTES_PER_VOXEL = 2.0
_VOLUME_BYTES_PER_VOXEL = 1.0
# An unpacked archive and the archive itself lie side by side for a while.
_ARCHIVE_FACTOR = 2.0
_TYPICAL_RAW_CASE_BYTES = 100e6
_RESERVE_BYTES = 200e6


def bytes_needed(config: Config, folder: Path) -> float:
    """Rough number of bytes that the data sets still need under `folder`; what is made already counts as none."""
    needed = 0.0
    for dataset in config.all_datasets:
        if not (folder / "resources" / "raw" / dataset.name / "manifest.json").exists():
            needed += _raw_bytes(dataset)
        if not (folder / "results" / "volumes" / dataset.name / "cases.csv").exists():
            voxels = len(dataset.used_cases) * _FIELD_OF_VIEW_MM3 / _voxel_mm3(config.volumes.spacing_mm)
            needed += voxels * _VOLUME_BYTES_PER_VOXEL
    return needed + _RESERVE_BYTES


def check_disk(config: Config, folder: Path) -> None:
    """Refuse to start where the disk of `folder` is too small.

    Raises
    ------
    UserError: one line with the gigabytes needed and free.
    """
    needed = bytes_needed(config, folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            str(folder.resolve()),
            f"the data sets need about {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free",
            "free some, or work on a larger disk with `snakemake --directory FOLDER`",
        )


def _raw_bytes(dataset: Dataset) -> float:
    cases = len(dataset.all_cases)
    if isinstance(dataset.source, PhantomSource):
        return cases * _FIELD_OF_VIEW_MM3 / _voxel_mm3(dataset.source.spacing_mm) * _RAW_BYTES_PER_VOXEL
    if isinstance(dataset.source, DownloadSource):
        known = sum(file.size_bytes or 0 for file in dataset.source.files) * _ARCHIVE_FACTOR
        return known or cases * _TYPICAL_RAW_CASE_BYTES
    return 0.0


def _voxel_mm3(spacing_mm: tuple[float, float, float]) -> float:
    x, y, z = spacing_mm
    return x * y * z
