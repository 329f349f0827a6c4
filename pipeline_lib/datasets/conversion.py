"""OpenKBP's patients, read straight from the repository's archive or folder and written as images and masks.

Only the files that the data set needs are read, and each must be the very one that was published, by its git blob id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import SimpleITK as sitk

from ..config.datasets import Dataset, DownloadSource, LocalSource
from ..config.layouts import published
from ..config.openkbp import COMMIT, Patient, patients_digest
from ..errors import UserError
from ..files import atomic_folder, read_json, write_json
from ..progress import Progress, say
from .archives import read_members
from .openkbp import ReadPatient, read_patient
from .published import STATE, local_path, remove_links
from .shared_archive import SharedArchive

_NOTE = "converted.json"
_PUBLISHED = f"give the repository ababier/open-kbp at commit {COMMIT[:7]}, as an archive or unpacked"


def convert_dataset(dataset: Dataset, raw: Path, keep_archives: bool, sharing: tuple[Dataset, ...]) -> None:
    """Write the image and the masks of every case into `raw`; those of an earlier run are kept.

    Parameters
    ----------
    keep_archives: an archive that is not to be kept goes as soon as the last data set has read it.
    sharing: the other data sets that read the same archive.

    Raises
    ------
    UserError: one line that names the file that is missing, is not the published one, or cannot be had.
    """
    remove_links(raw)
    source = dataset.source
    if isinstance(source, DownloadSource):
        archive = SharedArchive(source.files[0], raw)
        with archive.locked(dataset.name):
            if not (cases := _unconverted(dataset, raw)):
                # A run that was killed after its last case may have left the archive.
                _delete_if_read(archive, raw, keep_archives, sharing)
                return
            (raw / STATE / _NOTE).unlink(missing_ok=True)
            archive.fetch(dataset.name)
        _convert(dataset, raw, cases, archive.path, f"remove {archive.path} and run again")
        with archive.locked(dataset.name):
            _note(dataset, raw)
            _delete_if_read(archive, raw, keep_archives, sharing)
    elif isinstance(source, LocalSource) and (cases := _unconverted(dataset, raw)):
        _convert(dataset, raw, cases, local_path(dataset, source), _PUBLISHED)
        _note(dataset, raw)


def blob_id(content: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _delete_if_read(archive: SharedArchive, raw: Path, keep_archives: bool, sharing: tuple[Dataset, ...]) -> None:
    """Delete an archive that is not to be kept once every other data set has made all its cases. Call it with the lock.

    The files of the others do not count: raw cases may be deleted once their volumes are made.
    """
    is_read = (_made(other, raw.parent / other.name).keys() >= {*other.used_cases} for other in sharing)
    if not keep_archives and all(is_read):
        archive.delete()


def _convert(dataset: Dataset, raw: Path, cases: Mapping[str, Patient], place: Path, remedy: str) -> None:
    """Read the files of these cases in the order in which `place` has them, and write each case once it has all.

    `remedy` is what to do about a file that is not the published one.
    """
    owners = {path: case for case, patient in cases.items() for path in patient.files()}
    waiting: dict[str, dict[str, bytes]] = {case: {} for case in cases}
    progress = Progress(f"convert {dataset.name}", len(cases), "cases")
    for path, content in _contents(place, owners):
        case = owners[path]
        patient, name = cases[case], PurePosixPath(path).name
        if (found := blob_id(content)) != patient.blobs[name]:
            wrong = f"is not the published file: its git blob id is {found}, not {patient.blobs[name]}"
            raise UserError(f"{place}: {path}", wrong, remedy)
        waiting[case][name] = content
        if waiting[case].keys() == patient.blobs.keys():
            _write_case(dataset, raw, case, read_patient(patient, waiting.pop(case)))
            if patient.refused:
                say(f"{case}: note: contours that are not used: {patient.refused}")
            progress.advance(note=case)
    for case, files in waiting.items():
        absent = next(path for path in cases[case].files() if PurePosixPath(path).name not in files)
        raise UserError(str(place), f"does not hold {absent}, which is part of {case}", _PUBLISHED)


def _contents(place: Path, wanted: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Path in the repository and content of each wanted file that an archive or a folder has."""
    if place.is_file():
        yield from read_members(place, wanted)
        return
    for path in wanted:
        if (place / path).is_file():
            yield path, (place / path).read_bytes()


def _write_case(dataset: Dataset, raw: Path, case: str, read: ReadPatient) -> None:
    """Write a case's folder, whole or not at all."""
    files = published(dataset.layout).files
    assert files.labels is not None, "the layout of a collection has a path of its labels"
    named = {files.image.format(case=case): read.hu}
    for organ, mask in read.masks.items():
        named[files.labels.format(case=case, structure=organ)] = mask.astype(np.uint8)
    with atomic_folder(raw / dataset.root / case) as folder:
        for name, voxels in named.items():
            path = folder / PurePosixPath(name).relative_to(case)
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(read.grid.image(voxels), str(path), useCompression=True)


def _note(dataset: Dataset, raw: Path) -> None:
    """Record what was made of which rows of the table, and the size of every file."""
    root, table = raw / dataset.root, _table(dataset)
    made = {
        case: {
            "patient": patients_digest(table, [case]),
            "files": {
                path.relative_to(root).as_posix(): path.stat().st_size
                for path in sorted((root / case).rglob("*"))
                if path.is_file()
            },
        }
        for case in dataset.used_cases
    }
    write_json(raw / STATE / _NOTE, made)


def _unconverted(dataset: Dataset, raw: Path) -> dict[str, Patient]:
    """The cases that are not there as the table now wants them."""
    made, root, table = _made(dataset, raw), raw / dataset.root, _table(dataset)

    def is_there(case: str) -> bool:
        sizes = made.get(case, {}).items()
        return case in made and all(
            (root / name).is_file() and (root / name).stat().st_size == size for name, size in sizes
        )

    return {case: table[case] for case in dataset.used_cases if not is_there(case)}


def _made(dataset: Dataset, raw: Path) -> dict[str, dict[str, int]]:
    """The files and sizes of each case that was made of the rows that the table now has, by the note of it."""
    try:
        noted = read_json(raw / STATE / _NOTE)
    except (OSError, json.JSONDecodeError):
        return {}
    table = _table(dataset)
    return {case: each["files"] for case, each in noted.items() if each["patient"] == patients_digest(table, [case])}


def _table(dataset: Dataset) -> Mapping[str, Patient]:
    table = published(dataset.layout).patients
    assert table is not None, "only a layout with a table of patients is converted"
    return table()
