"""A segmentation as an RTSTRUCT, which planning systems read: contours in the planes of the CT's slices.

Contours run between voxels (module outlines), so they enclose the mask's exact volume and give it back voxel for voxel.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import RTStructureSetStorage

from ...config.rois import is_lesion
from ...datasets.dicom.series import CtSeries
from ...reporting.style import roi_colours
from .codes import coded
from .objects import NAME, Maker, code_item, date, header_faults, item, new_object, reference, source_headers, time
from .outlines import outlines

_STUDY = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: what the standard has an RTSTRUCT call the study that it refers to."""
_DIGITS = 4
"""Of a vertex's mm: far below a voxel, so that points of an oblique slice lie in its plane."""


class StructureSet:
    """An RTSTRUCT of ROIs on a series; one without a voxel is listed without contours (MaskObject)."""

    def __init__(self, series: CtSeries, rois: tuple[str, ...], maker: Maker) -> None:
        """Raises UserError if a slice's header lacks what contours refer to."""
        self._series, self._rois, self._maker = series, rois, maker
        self._sources = source_headers(series)
        self._contours: dict[str, list[Dataset]] = {roi: [] for roi in rois}

    def add(self, roi: str, mask: np.ndarray) -> None:
        """Trace a ROI's mask (bool D H W)."""
        for number in np.flatnonzero(mask.any(axis=(1, 2))):
            for polygon in outlines(mask[number]):
                self._contours[roi].append(self._contour(int(number), polygon))

    def dataset(self) -> Dataset:
        """The RTSTRUCT; raises UserError if the series' header cannot be repeated."""
        with header_faults(self._series):
            return self._made()

    def _made(self) -> Dataset:
        source, now = self._sources[0], datetime.now()
        made = new_object(source, RTStructureSetStorage, "RTSTRUCT", self._maker)
        made.OperatorsName, made.SeriesDescription = "", f"{NAME} {self._maker.version}"
        made.StructureSetLabel, made.StructureSetName = NAME, NAME
        made.StructureSetDescription = "Computed, not reviewed"
        made.StructureSetDate, made.StructureSetTime = date(now), time(now)
        made.ApprovalStatus = "UNAPPROVED"
        made.ReferencedFrameOfReferenceSequence = Items([self._drawn_on()])
        numbered = list(enumerate(self._rois, start=1))
        made.StructureSetROISequence = Items([self._roi(number, roi) for number, roi in numbered])
        colours = roi_colours(self._rois)
        made.ROIContourSequence = Items(
            [self._drawn(number, roi, colours[number - 1]) for number, roi in numbered],
        )
        made.RTROIObservationsSequence = Items([self._observation(number, roi) for number, roi in numbered])
        return made

    def _drawn_on(self) -> Dataset:
        source = self._sources[0]
        images = Items([reference(slice_) for slice_ in self._sources])
        series = item(SeriesInstanceUID=source.SeriesInstanceUID, ContourImageSequence=images)
        study = item(
            ReferencedSOPClassUID=_STUDY,
            ReferencedSOPInstanceUID=source.StudyInstanceUID,
            RTReferencedSeriesSequence=Items([series]),
        )
        return item(FrameOfReferenceUID=source.FrameOfReferenceUID, RTReferencedStudySequence=Items([study]))

    def _roi(self, number: int, roi: str) -> Dataset:
        return item(
            ROINumber=number,
            ReferencedFrameOfReferenceUID=self._sources[0].FrameOfReferenceUID,
            ROIName=roi,
            ROIGenerationAlgorithm="AUTOMATIC",
            ROIGenerationDescription=f"{NAME} {self._maker.version}",
        )

    def _drawn(self, number: int, roi: str, colour: tuple[int, int, int]) -> Dataset:
        made = item(ReferencedROINumber=number, ROIDisplayColor=list(colour))
        if self._contours[roi]:
            made.ContourSequence = Items(self._contours[roi])
        return made

    def _observation(self, number: int, roi: str) -> Dataset:
        codes = coded(roi)
        kind = code_item(codes.type)
        if codes.side:
            kind.SegmentedPropertyTypeModifierCodeSequence = Items([code_item(codes.side)])
        return item(
            ObservationNumber=number,
            ReferencedROINumber=number,
            ROIObservationLabel=roi[:16],
            RTROIInterpretedType="" if is_lesion(roi) else "ORGAN",
            ROIInterpreter="",
            RTROIIdentificationCodeSequence=Items([kind]),
        )

    def _contour(self, number: int, polygon: np.ndarray) -> Dataset:
        """A polygon (column, row in pixels) in the plane of a slice."""
        source = self._sources[number]
        right, down = np.reshape(source.ImageOrientationPatient, (2, 3)).astype(float)
        row_step, column_step = (float(side) for side in source.PixelSpacing)
        first = np.array(source.ImagePositionPatient, float)
        points = first + polygon[:, :1] * column_step * right + polygon[:, 1:] * row_step * down
        return item(
            ContourImageSequence=Items([reference(source)]),
            ContourGeometricType="CLOSED_PLANAR",
            NumberOfContourPoints=len(points),
            ContourData=[_decimal(value) for value in points.ravel()],
        )


def _decimal(value: float) -> str:
    # Adding 0 makes 0 of −0.
    return f"{round(value, _DIGITS) + 0.0:.{_DIGITS}f}".rstrip("0").rstrip(".")
