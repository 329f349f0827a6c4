"""What a config's data look like: from its volumes, else from the headers of its raw cases, else from nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import SimpleITK as sitk

from ..config.datasets import Dataset
from ..config.schema import Config
from ..datasets.readers import case_files
from ..errors import UserError
from ..geometry import Geometry
from ..volumes.record import read_record

Numbers = tuple[float, float, float]
_CASES_PER_DATA_SET = 50


class Fingerprint(NamedTuple):
    """Medians over cases, x y z: the original spacing in mm, and the voxels of a volume at the config's spacing.

    `volumes_ml` has the median volume of each ROI where it is there; empty where labels were not read. `source` says
    what was looked at.
    """

    cases: int
    source: str
    spacing_mm: Numbers
    size_voxels: Numbers
    volumes_ml: dict[str, float]


class _Case(NamedTuple):
    original: Geometry
    volumes_ml: dict[str, float]


def fingerprint(config: Config, folder: Path) -> Fingerprint | None:
    """Of the partially labelled data sets under the working directory `folder`; None if nothing is there yet.

    At most 50 cases of a data set are looked at, evenly over its list.
    """
    for looked_at, read in (("volumes", _volumes), ("headers of raw cases", _raw_cases)):
        cases = [case for dataset in config.datasets.partially_labelled for case in read(dataset, folder)]
        if cases:
            return _of(cases, looked_at, config)
    return None


def _of(cases: Sequence[_Case], source: str, config: Config) -> Fingerprint:
    spacing = config.volumes.spacing_mm
    sizes = [case.original.canonical().at_spacing(spacing).size for case in cases]
    names = [name for name in config.roi_names if any(name in case.volumes_ml for case in cases)]
    return Fingerprint(
        cases=len(cases),
        source=source,
        spacing_mm=_medians([case.original.canonical().spacing_mm for case in cases]),
        size_voxels=_medians(sizes),
        volumes_ml={name: median(case.volumes_ml[name] for case in cases if name in case.volumes_ml) for name in names},
    )


def _volumes(dataset: Dataset, folder: Path) -> Iterator[_Case]:
    for name in _some(dataset.used_cases):
        path = folder / "results" / "volumes" / dataset.name / name / "case.json"
        if path.is_file():
            record = read_record(path)
            x, y, z = record.spacing_mm
            volumes = {roi: count * x * y * z / 1000 for roi, count in record.voxels.items() if count}
            yield _Case(record.original, volumes)


def _raw_cases(dataset: Dataset, folder: Path) -> Iterator[_Case]:
    """Headers only; what cannot be read is left out here, and `snakemake validate` says what is wrong with it."""
    root = folder / "resources" / "raw" / dataset.name / dataset.root
    for name in _some(dataset.used_cases):
        try:
            path = case_files(dataset.layout, root, name, ()).image
        except (OSError, UserError):
            continue
        if path.is_file():
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            try:
                reader.ReadImageInformation()
                geometry = Geometry(
                    size=reader.GetSize(),
                    spacing_mm=reader.GetSpacing(),
                    origin_mm=reader.GetOrigin(),
                    direction=reader.GetDirection(),
                )
            except (RuntimeError, ValueError):
                continue
            yield _Case(geometry, {})


def _some(names: Sequence[str]) -> Sequence[str]:
    step = max(1, -(-len(names) // _CASES_PER_DATA_SET))
    return names[::step]


def _medians(rows: Sequence[Sequence[float]]) -> Numbers:
    x, y, z = (float(median(column)) for column in zip(*rows, strict=True))
    return x, y, z
