"""How much disk the data of a config takes, so that a full disk is met before the first job and not in its middle.

python -m pipeline_lib.tools.disk --configfile config/mots.yaml
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from ..config.datasets import ARCHIVE_ENDINGS, Dataset, DownloadSource, PhantomSource, RemoteFile, archive_identity
from ..config.layouts import published
from ..config.loading import load_config
from ..config.schema import Config
from ..errors import UserError
from ..volumes.batch_list import listed_cases

# A torso's field of view in mm³, and the bytes that a voxel of it takes: two in a raw case, about one after the
# window and the compression of a volume (real CTs: 0.5 to 1.8, docs/volumes.md).
_FIELD_OF_VIEW_MM3 = 400.0 * 400.0 * 450.0
_RAW_BYTES_PER_VOXEL = 2.0
_VOLUME_BYTES_PER_VOXEL = 1.0
_TYPICAL_RAW_CASE_BYTES = 100e6
_CONVERTED_CASE_BYTES = 0.4e6  # OpenKBP's CTs of 0.6 million voxels, packed, with their masks
_RESERVE_BYTES = 200e6


@dataclass(frozen=True)
class Disk:
    """Bytes of one data set at its three stops: as downloaded, as unpacked, as volumes."""

    archives: float
    raw: float
    volumes: float


def disk_of(dataset: Dataset, spacing_mm: tuple[float, float, float]) -> Disk:
    """Roughly what a data set takes; images that are compressed already stay as large when they are unpacked."""
    voxels = len(dataset.used_cases) * _FIELD_OF_VIEW_MM3 / _voxel_mm3(spacing_mm)
    archives, raw = _downloaded_bytes(dataset)
    return Disk(archives, raw, voxels * _VOLUME_BYTES_PER_VOXEL)


def disk_of_all(config: Config) -> dict[str, Disk]:
    """Data set → what it takes; an archive that several read is counted with the first of them."""
    sizes: dict[str, Disk] = {}
    read = set()
    for dataset in config.all_datasets:
        disk = disk_of(dataset, config.volumes.spacing_mm)
        if published(dataset.layout).patients is not None and isinstance(dataset.source, DownloadSource):
            archive = archive_identity(dataset.source.files[0])
            disk = replace(disk, archives=0.0) if archive in read else disk
            read.add(archive)
        sizes[dataset.name] = disk
    return sizes


def bytes_needed(config: Config, folder: Path) -> float:
    """Rough number of bytes that the data sets still need under `folder`; what is made already counts as none.

    All raw cases lie side by side where they are kept. Where they are deleted it is the least that can do, if data sets
    are made one after another: the largest of them beside all volumes.
    """
    sizes = disk_of_all(config)
    coming = [
        disk for name, disk in sizes.items() if not (folder / "resources" / "raw" / name / "manifest.json").exists()
    ]
    volumes = sum(
        sizes[dataset.name].volumes * _share_to_come(dataset, folder / "results" / "volumes" / dataset.name)
        for dataset in config.all_datasets
    )
    archives, raw = [disk.archives for disk in coming], [disk.raw for disk in coming]
    most_raw = sum(raw) if config.storage.keep_raw_cases else max(raw, default=0.0)
    if config.storage.keep_archives:
        return most_raw + sum(archives) + volumes + _RESERVE_BYTES
    # Archives that are deleted give their place to the volumes.
    most_archives = sum(archives) if config.storage.keep_raw_cases else max(archives, default=0.0)
    return most_raw + max(most_archives, volumes) + _RESERVE_BYTES


def _share_to_come(dataset: Dataset, volumes: Path) -> float:
    """The share of the data set's cases that have no volume in the folder `volumes` yet, going by the lists there."""
    if (volumes / "cases.csv").exists():
        return 0.0
    made = {case for path in volumes.glob("batch_*.txt") for case in listed_cases(path)}
    return len(set(dataset.used_cases) - made) / max(1, len(dataset.used_cases))


def disk_in_words(config: Config, folder: Path) -> str:
    """What the data sets take, what of it is still to come under `folder`, and what is free there."""
    sizes = disk_of_all(config).values()
    archives, raw, volumes = (sum(getattr(each, key) for each in sizes) / 1e9 for key in ("archives", "raw", "volumes"))
    needed, free = bytes_needed(config, folder) / 1e9, shutil.disk_usage(folder).free / 1e9
    return (
        f"archives {archives:.1f} GB, raw cases {raw:.1f} GB, volumes {volumes:.1f} GB; "
        f"{needed:.1f} GB still to come, {free:.1f} GB free{': too little' if free < needed else ''}"
    )


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
            "free some, work on a larger disk with `snakemake --directory FOLDER`, or set `storage` (config/README.md)",
        )


def _downloaded_bytes(dataset: Dataset) -> tuple[float, float]:
    """Bytes of the archives and of the raw cases; a folder that the user has takes none unless it is converted."""
    cases = len(dataset.used_cases)
    if isinstance(dataset.source, PhantomSource):
        return 0.0, cases * _FIELD_OF_VIEW_MM3 / _voxel_mm3(dataset.source.spacing_mm) * _RAW_BYTES_PER_VOXEL
    is_converted = published(dataset.layout).patients is not None
    if not isinstance(dataset.source, DownloadSource):
        return 0.0, cases * _CONVERTED_CASE_BYTES * is_converted
    packed = [_bytes_of(file) for file in dataset.source.files if file.path.lower().endswith(ARCHIVE_ENDINGS)]
    whole = sum(_bytes_of(file) for file in dataset.source.files)
    per_case = sum(_bytes_of(file) for file in dataset.source.per_case)
    if is_converted:
        return sum(packed), cases * _CONVERTED_CASE_BYTES
    # Where no size is known, cases are as large as most CTs are.
    raw = (whole + cases * per_case) or cases * _TYPICAL_RAW_CASE_BYTES
    return (sum(packed) or raw) if packed else 0.0, raw


def _bytes_of(file: RemoteFile) -> float:
    return file.size_bytes or (file.about_gb or 0.0) * 1e9


def _voxel_mm3(spacing_mm: tuple[float, float, float]) -> float:
    x, y, z = spacing_mm
    return x * y * z


def main() -> None:
    parser = argparse.ArgumentParser(description="Print how much disk each data set of a config takes, in GB.")
    parser.add_argument("--configfile", type=Path, required=True)
    try:
        config = load_config(parser.parse_args().configfile)
    except UserError as error:
        sys.exit(f"error: {error}")
    rows = disk_of_all(config)
    parts = [(disk.archives, disk.raw, disk.volumes) for disk in rows.values()]
    print(f"{'GB':<24}{'archives':>10}{'raw cases':>11}{'volumes':>9}")
    for name, sizes in zip((*rows, "together"), (*parts, map(sum, zip(*parts, strict=True))), strict=True):
        archives, raw, volumes = (size / 1e9 for size in sizes)
        print(f"{name:<24}{archives:>10.1f}{raw:>11.1f}{volumes:>9.1f}")


if __name__ == "__main__":
    main()
