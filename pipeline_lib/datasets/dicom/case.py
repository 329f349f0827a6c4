"""A patient's folder: the CT, and the structures that its RTSTRUCT and DICOM-SEG files draw on it, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry import Geometry
from ...gzip_stream import AGAIN
from .contours import StructureSet
from .files import READ_ERRORS, DicomFile, dicom_files, read_dicom
from .segments import Segmentation
from .series import CtSeries, ct_volumes, placed_series, the_only_volume

_KINDS = {
    "1.2.840.10008.5.1.4.1.1.481.3": StructureSet,
    "1.2.840.10008.5.1.4.1.1.66.4": Segmentation,
    "1.2.840.10008.5.1.4.1.1.66.7": Segmentation,  # label maps
}


@dataclass(frozen=True)
class DicomCase:
    """A CT and the files that draw structures on it. A structure that no file names is unknown, not absent."""

    folder: Path
    ct: CtSeries
    drawings: tuple[StructureSet | Segmentation, ...]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all structures as written."""
        return tuple(dict.fromkeys(name for drawing in self.drawings for name in drawing.names))

    def mask(self, name: str) -> np.ndarray:
        """bool D H W of a structure on the CT's grid; raises UserError if two files draw it, or one does so wrongly."""
        files = [drawing for drawing in self.drawings if name in drawing.names]
        if len(files) != 1:
            where = " and ".join(drawing.path.name for drawing in files) or "no file"
            raise UserError(str(self.folder), f"has {name!r} in {where}", "keep the one that counts in the folder")
        return files[0].mask(name)


def read_dicom_case(folder: Path) -> DicomCase:
    """The CT below a patient's folder and its structures; of several CT volumes the one that they were drawn on.

    Raises UserError as `read_ct_series` does, and if no file draws structures on the CT.
    """
    files = dicom_files(folder)
    drawings = [file for file in files if file.text("SOPClassUID") in _KINDS]
    drawn_on = {uid for file in drawings for uid in _drawn_on(file)}
    volumes = ct_volumes(files)
    referred = [volume for volume in volumes if volume[0].text("SeriesInstanceUID") in drawn_on]
    ct = placed_series(folder, files, the_only_volume(folder, files, referred or volumes))
    fitting = [file for file in drawings if _frame_of_reference(file) in ("", ct.frame_of_reference_uid)]
    if not fitting:
        wrong = "holds no RTSTRUCT or DICOM-SEG"
        if drawings:
            wrong = (
                f"has {drawings[0].path.name}, drawn in another frame of reference than its CT, and no other drawing"
            )
        raise UserError(str(folder), wrong, "add the one that was drawn on this CT, or list the case under `skip:`")
    elsewhere = [file.path.name for file in drawings if file not in fitting]
    notes = (f"leaves out what was drawn on other images: {', '.join(elsewhere)}",) if elsewhere else ()
    opened = tuple(_opened(file, ct.grid) for file in fitting)
    if not any(drawing.names for drawing in opened):
        raise UserError(str(fitting[0].path), "draws no structure", "draw it, or list the case under `skip:`")
    return DicomCase(folder, ct, opened, (*ct.notes, *notes))


def _opened(file: DicomFile, grid: Geometry) -> StructureSet | Segmentation:
    try:
        return _KINDS[file.text("SOPClassUID")](file.path, read_dicom(file.path), grid)
    except READ_ERRORS as error:
        wrong = f"is cut off or damaged ({' '.join(str(error).split())[:200]})"
        raise UserError(str(file.path), wrong, AGAIN) from error


def _frame_of_reference(file: DicomFile) -> str:
    """The frame of reference in which structures are drawn; an RTSTRUCT says so with each ROI."""
    rois = file.header.get("StructureSetROISequence") or ()
    frames = [str(roi.get("ReferencedFrameOfReferenceUID") or "") for roi in rois]
    return next((frame for frame in frames if frame), file.text("FrameOfReferenceUID"))


def _drawn_on(file: DicomFile) -> Iterator[str]:
    """SeriesInstanceUIDs of the images that a drawing refers to."""
    for item in file.header.get("ReferencedSeriesSequence") or ():
        yield str(item.get("SeriesInstanceUID", ""))
    for frame in file.header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for series in study.get("RTReferencedSeriesSequence") or ():
                yield str(series.get("SeriesInstanceUID", ""))
