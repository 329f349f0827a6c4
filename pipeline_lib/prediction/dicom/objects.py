"""What the DICOM objects that are made of a CT series have in common: whose they are, and who made them."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from ...datasets.dicom.files import READ_ERRORS
from ...datasets.dicom.series import CtSeries
from ...errors import UserError
from .codes import Code

NAME = "Lacuna"
SERIES_NUMBER = 1
"""For people; series are told apart by their UIDs."""
_MAY_BE_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Elements that every object must have (type 2). Anonymised series often lack them."""
_NEEDED = ("StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
_COPIED = ("SpecificCharacterSet", "StudyInstanceUID", "StudyDescription", "FrameOfReferenceUID", *_MAY_BE_EMPTY)
_LONGEST = 64
"""Characters of a short text in DICOM (LO)."""


class MaskObject(Protocol):
    """A DICOM object that is given one ROI after the other."""

    def add(self, roi: str, mask: np.ndarray) -> None:
        """Add a ROI's mask (bool D H W, in the order of the series' slices)."""

    def dataset(self) -> Dataset:
        """The object with all ROIs, ready to be written."""


@dataclass(frozen=True)
class Maker:
    """The software and the models that made a segmentation."""

    version: str
    models: tuple[str, ...]

    @classmethod
    def of(cls, version: str, made_by: Mapping[str, Any]) -> Maker:
        """`made_by` is that of a Segmentation."""
        return cls(version, tuple(model["content"] for model in made_by["models"]))

    @property
    def serial(self) -> str:
        """Names the models, as the serial number of a device does."""
        return " ".join(self.models)[:_LONGEST]


def source_headers(series: CtSeries) -> list[Dataset]:
    """Headers of the slices in order, with what an object that refers to them repeats.

    Raises UserError if one does not say what the object has to refer to.
    """
    headers: list[Dataset] = []
    for file in series.slices:
        for name in _NEEDED:
            if not file.text(name):
                remedy = "export the series again, or write --format labels"
                raise UserError(str(file.path), f"lacks {name}, to which DICOM outputs refer", remedy)
        header = copy.copy(file.header)
        # Numbers that differ in their last digits are of the same stack; some libraries compare them exactly.
        header.ImageOrientationPatient = series.slices[0].header.ImageOrientationPatient
        for name in _MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
        if not header.get("SliceThickness"):
            header.SliceThickness = series.grid.spacing_mm[2]
        headers.append(header)
    return headers


def new_object(source: Dataset, sop_class: UID, modality: str, maker: Maker) -> FileDataset:
    """An object of the same patient and study as `source`, in a series of its own."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name in _COPIED:
        if name in source:
            made[name] = copy.deepcopy(source[name])
    now = datetime.now()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    made.InstanceCreationDate, made.InstanceCreationTime = date(now), time(now)
    made.Modality, made.SeriesInstanceUID = modality, generate_uid()
    made.SeriesNumber, made.InstanceNumber = SERIES_NUMBER, 1
    made.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    made.Manufacturer, made.ManufacturerModelName, made.SoftwareVersions = NAME, NAME, maker.version
    made.DeviceSerialNumber = maker.serial
    return made


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def code_item(code: Code) -> Dataset:
    """A code as an item of a sequence."""
    long = len(code.value) > 16
    return item(
        **{"LongCodeValue" if long else "CodeValue": code.value},
        CodingSchemeDesignator=code.scheme,
        CodeMeaning=code.meaning[:_LONGEST],
    )


def reference(source: Dataset) -> Dataset:
    """A slice as an item of a sequence of references."""
    return item(ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=source.SOPInstanceUID)


def date(moment: datetime) -> str:
    return f"{moment:%Y%m%d}"


def time(moment: datetime) -> str:
    return f"{moment:%H%M%S}"


@contextmanager
def header_faults(series: CtSeries) -> Iterator[None]:
    """Raise UserError for what the block cannot repeat of the series' header: its values may break DICOM's rules."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except READ_ERRORS as error:
        if isinstance(error, OSError):
            raise
        wrong = f"has a header that a DICOM output cannot repeat ({' '.join(str(error).split())[:200]})"
        raise UserError(str(series.slices[0].path), wrong, "correct it, or write --format labels") from error
