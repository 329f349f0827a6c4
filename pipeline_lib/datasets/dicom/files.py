"""The DICOM files below a folder: their headers, and what is wrong with the folder as a whole."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ...errors import UserError
from ...gzip_stream import AGAIN

READ_ERRORS = (
    BytesLengthException,
    InvalidDicomError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RuntimeError,
    Warning,
)
"""What pydicom raises for files that are damaged in one way or another."""

_UNDEFINED_LENGTH = 0xFFFFFFFF
_PREAMBLE_BYTES = 128
_DIRECTORY = "1.2.840.10008.1.3.10"
_FILE_ENDING = ".dcm"
_OLD_BEGINNING = b"\x08\x00"
"""Group 0008, with which files from before 1996 begin, and those of some planning systems: without any preamble."""


@dataclass(frozen=True)
class DicomFile:
    """A file and its header."""

    path: Path
    header: FileDataset

    def get(self, name: str) -> Any:
        """An element's value; raises UserError if the header lacks it."""
        try:
            value = self.header.get(name)
        except READ_ERRORS as error:
            raise self._damaged(name, error) from error
        if value is None or value == "":
            raise UserError(str(self.path), f"lacks {name}, so it is cut off or not a whole CT image", AGAIN)
        return value

    def numbers(self, name: str, count: int) -> np.ndarray:
        """An element's values (float64, `count`); raises UserError if the header lacks them or they are not so many."""
        try:
            values = np.atleast_1d(np.array(self.get(name), np.float64))
        except (ValueError, TypeError) as error:
            raise self._damaged(name, error) from error
        if values.shape != (count,) or not np.isfinite(values).all():
            raise self._damaged(name, f"{count} number{'s' * (count > 1)} expected")
        return values

    def text(self, name: str) -> str:
        """An element's value as text, empty where the header lacks it; raises UserError if it is damaged."""
        try:
            value = self.header.get(name)
            return "" if value is None else str(value).strip()
        except READ_ERRORS as error:
            raise self._damaged(name, error) from error

    def _damaged(self, name: str, said: object) -> UserError:
        return UserError(str(self.path), f"has a damaged {name} ({' '.join(str(said).split())[:200]})", AGAIN)


def dicom_files(folder: Path) -> tuple[DicomFile, ...]:
    """Headers of all DICOM files below a folder, in the order of their paths; other files do not count.

    Raises UserError if there are none, if one is empty, cut off or not what its name says, or if they are of two
    patients.
    """
    if not folder.is_dir():
        wrong = "is not a folder" if folder.exists() else "is missing"
        raise UserError(str(folder), wrong, "give the folder of a patient's DICOM files")
    files = tuple(DicomFile(path, header) for path in _paths(folder) if (header := _header(path)) is not None)
    if not files:
        raise UserError(str(folder), "holds no DICOM file", "give the folder of a patient's DICOM files")
    patients = {(file.text("PatientID") or file.text("PatientName")) for file in files} - {""}
    if len(patients) > 1:
        shown = ", ".join(sorted(patients)[:3])
        raise UserError(
            str(folder), f"holds files of {len(patients)} patients ({shown})", "make a folder for each patient"
        )
    return files


def first_dicom_file(folder: Path, below: bool = True) -> Path | None:
    """A file in a folder, or anywhere `below` it, that is DICOM or is named so; None if there is none."""
    paths = _paths(folder) if below else (path for path in sorted(folder.iterdir()) if path.is_file())
    return next((path for path in paths if not path.name.startswith(".") and is_dicom(path)), None)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its name or its first bytes."""
    if path.name.lower().endswith(_FILE_ENDING):
        return True
    head = _head(path)
    return head[_PREAMBLE_BYTES:] == b"DICM" or head.startswith(_OLD_BEGINNING)


def study_of(path: Path) -> str:
    """The StudyInstanceUID of a DICOM file, its own path if that cannot be read."""
    try:
        return str(read_dicom(path, stop_before_pixels=True).get("StudyInstanceUID") or path)
    except READ_ERRORS:
        return str(path)


def contents(files: Sequence[DicomFile]) -> str:
    """What kinds of images files hold, in words: `2 MR, 1 RTSTRUCT`."""
    counted = Counter(file.text("Modality") or "unknown modality" for file in files)
    return ", ".join(f"{number} {modality}" for modality, number in sorted(counted.items()))


def _paths(folder: Path) -> Iterator[Path]:
    """All visible files below a folder, also through links to folders, each folder once."""
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:  # by a link, perhaps to a folder above
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PREAMBLE_BYTES + 4)


def _header(path: Path) -> FileDataset | None:
    """The header of a DICOM file; None for a file of another kind and for a DICOMDIR."""
    try:
        head = _head(path)
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror or error})", "check the file") from error
    named = path.name.lower().endswith(_FILE_ENDING)
    without_preamble = head[_PREAMBLE_BYTES:] != b"DICM"
    if without_preamble and not head.startswith(_OLD_BEGINNING):
        if named:
            raise UserError(str(path), "is empty (0 bytes)" if not head else "is not a DICOM file", AGAIN)
        return None
    try:
        header = read_dicom(path, stop_before_pixels=True)
    except READ_ERRORS as error:
        raise UserError(str(path), f"is cut off or damaged ({' '.join(str(error).split())})", AGAIN) from error
    if header.file_meta.get("MediaStorageSOPClassUID") == _DIRECTORY:
        return None
    if not header.get("SOPClassUID") or not header.get("SeriesInstanceUID"):
        raise UserError(str(path), "is cut off in its header, or not an image", AGAIN)
    return header


def read_dicom(path: Path, stop_before_pixels: bool = False) -> FileDataset:
    """A DICOM file with or without its pixels; raises one of READ_ERRORS if it is cut off or not DICOM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="End of file")
        dicom = dcmread(path, stop_before_pixels=stop_before_pixels, force=True)
    for tag in dicom.keys():  # noqa: SIM118 - iterating a data set itself would convert each element
        element = dicom.get_item(tag)
        if isinstance(element, RawDataElement) and len(element.value or b"") < element.length != _UNDEFINED_LENGTH:
            raise EOFError(f"ends within element {tag}")
    if "TransferSyntaxUID" not in dicom.file_meta:
        implicit = dicom.original_encoding[0]
        dicom.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dicom
