"""DICOM series, RTSTRUCT and DICOM-SEG as tests and benchmarks need them, written with pydicom alone.

A shape is a function of positions (… 3, mm) that is positive inside; its contours are followed on a fine grid in the
plane of each slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from contourpy import contour_generator
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    SegmentationStorage,
    generate_uid,
)
from pydicom.valuerep import DSfloat

from pipeline_lib.geometry import Geometry

Shape = Callable[[np.ndarray], np.ndarray]
Change = Callable[[int, FileDataset], None]


def new_file(sop_class: UID, modality: str, patient: str = "P1") -> FileDataset:
    """A data set with the identity that every instance has."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dicom.SOPClassUID, dicom.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dicom.StudyInstanceUID = dicom.SeriesInstanceUID = dicom.FrameOfReferenceUID = generate_uid()
    dicom.PatientID, dicom.PatientName, dicom.Modality = patient, "Test^Patient", modality
    dicom.StudyDate = dicom.StudyTime = dicom.AccessionNumber = dicom.PatientBirthDate = dicom.PatientSex = ""
    return dicom


def write_series(
    folder: Path,
    grid: Geometry,
    stored: np.ndarray | None = None,
    intercepts: Sequence[float] | None = None,
    slopes: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    patient: str = "P1",
    change: Change | None = None,
) -> list[FileDataset]:
    """A CT series on a grid, one file a slice, and its slices in the order of the grid.

    Parameters
    ----------
    stored: D H W, int16 as stored (default: 1000 everywhere); HU are `slope` × stored + `intercept`, which may differ
        from slice to slice (default: 1 and −1024).
    names: of the files, in the order of slices; by default their order says nothing about that of the slices.
    change: gets the number of a slice and its data set before it is written.
    """
    depth, rows, columns = grid.shape
    stored = np.full(grid.shape, 1000, np.int16) if stored is None else stored
    shuffled = np.random.default_rng(7).permutation(depth)
    names = [f"{place:04d}.dcm" for place in shuffled] if names is None else names
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    axes, spacing = grid.axes, grid.spacing_mm
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(depth):
        dicom = new_file(CTImageStorage, "CT", patient)
        dicom.StudyInstanceUID, dicom.SeriesInstanceUID, dicom.FrameOfReferenceUID = study, series, frame
        dicom.SeriesDescription, dicom.ImageType = "Test", ["ORIGINAL", "PRIMARY", "AXIAL"]
        dicom.InstanceNumber = int(shuffled[number]) + 1
        dicom.ImageOrientationPatient = decimals([*axes[:, 0], *axes[:, 1]])
        dicom.ImagePositionPatient = decimals(np.array(grid.origin_mm) + number * spacing[2] * axes[:, 2])
        dicom.PixelSpacing, dicom.SliceThickness = decimals([spacing[1], spacing[0]]), decimals([spacing[2]])[0]
        dicom.Rows, dicom.Columns = rows, columns
        dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, "MONOCHROME2"
        dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 16, 15, 1
        dicom.RescaleSlope = 1 if slopes is None else slopes[number]
        dicom.RescaleIntercept = -1024 if intercepts is None else intercepts[number]
        dicom.PixelData = np.ascontiguousarray(stored[number], "<i2").tobytes()
        if change is not None:
            change(number, dicom)
        dicom.save_as(folder / names[number], enforce_file_format=True)
        written.append(dicom)
    return written


def contours_of(shape: Shape, grid: Geometry, step_mm: float = 0.25) -> list[np.ndarray]:
    """The closed contours (N×3, mm) of a shape in the planes of a grid's slices, holes as contours of their own."""
    spacing, axes, found = np.array(grid.spacing_mm), grid.axes, []
    sides = (np.array(grid.size[:2]) - 1) * spacing[:2]
    across, down = (np.linspace(0, side, int(side / step_mm) + 1) for side in sides)
    places = np.stack(np.meshgrid(across, down), axis=-1) @ axes[:, :2].T + grid.origin_mm
    for number in range(grid.size[2]):
        shift = number * spacing[2] * axes[:, 2]
        for line in contour_generator(across, down, shape(places + shift)).lines(0.0):
            if np.array_equal(line[0], line[-1]) and len(line) > 3:
                found.append(line[:-1] @ axes[:, :2].T + grid.origin_mm + shift)
    return found


def keyhole(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """One contour for a ring: the outer one, a channel of no width at the nearest points, the inner one and back."""
    distance = np.linalg.norm(outer[:, None] - inner[None], axis=-1)
    first, second = np.unravel_index(distance.argmin(), distance.shape)
    outside, inside = np.roll(outer, -first, axis=0), np.roll(inner, -second, axis=0)
    return np.concatenate([outside, outside[:1], inside, inside[:1]])


def rtstruct(series: Sequence[FileDataset], rois: Mapping[str, Sequence[np.ndarray]], digits: int = 3) -> FileDataset:
    """An RTSTRUCT with a ROI for each name; its contours (N×3, mm) are written with so many digits."""
    first = series[0]
    dicom = new_file(RTStructureSetStorage, "RTSTRUCT", first.PatientID)
    dicom.StudyInstanceUID, dicom.FrameOfReferenceUID = first.StudyInstanceUID, first.FrameOfReferenceUID
    dicom.StructureSetLabel, dicom.StructureSetDate, dicom.StructureSetTime = "Test", "20260101", "000000"
    images = Items([_reference(item) for item in series])
    series_item = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    study_item = _item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=Items([series_item]),
    )
    frame_item = _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=Items([study_item]))
    dicom.ReferencedFrameOfReferenceSequence = Items([frame_item])
    dicom.StructureSetROISequence, dicom.ROIContourSequence, dicom.RTROIObservationsSequence = Items(), Items(), Items()
    for number, (name, contours) in enumerate(rois.items(), start=1):
        dicom.StructureSetROISequence.append(
            _item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=first.FrameOfReferenceUID,
                ROIName=name,
                ROIGenerationAlgorithm="MANUAL",
            )
        )
        items = Items([_contour(contour, series, digits) for contour in contours])
        dicom.ROIContourSequence.append(
            _item(ReferencedROINumber=number, ROIDisplayColor=[255, 0, 0], ContourSequence=items)
        )
        dicom.RTROIObservationsSequence.append(
            _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="ORGAN", ROIInterpreter="")
        )
    return dicom


def segmentation(
    series: Sequence[FileDataset], masks: Mapping[str, np.ndarray], kind: str = "BINARY", all_frames: bool = False
) -> FileDataset:
    """A DICOM-SEG with a segment for each name and mask (D H W: bool, or shares from 0 to 1 for FRACTIONAL).

    Frames without a voxel are left out, unless `all_frames`; the others are stored from the last slice to the first.
    """
    first, names = series[0], list(masks)
    dicom = new_file(SegmentationStorage, "SEG", first.PatientID)
    dicom.StudyInstanceUID, dicom.FrameOfReferenceUID = first.StudyInstanceUID, first.FrameOfReferenceUID
    dicom.SegmentationType = kind
    dicom.SegmentSequence = Items(
        [_item(SegmentNumber=number, SegmentLabel=name) for number, name in enumerate(names, start=1)]
    )
    dicom.ReferencedSeriesSequence = Items(
        [
            _item(
                SeriesInstanceUID=first.SeriesInstanceUID,
                ReferencedInstanceSequence=Items([_reference(item) for item in series]),
            )
        ]
    )
    measures = _item(PixelSpacing=first.PixelSpacing, SliceThickness=first.SliceThickness)
    orientation = _item(ImageOrientationPatient=first.ImageOrientationPatient)
    dicom.SharedFunctionalGroupsSequence = Items(
        [_item(PixelMeasuresSequence=Items([measures]), PlaneOrientationSequence=Items([orientation]))]
    )
    if kind == "LABELMAP":
        combined = np.zeros(masks[names[0]].shape, np.uint8)
        for number, name in enumerate(names, start=1):
            combined[masks[name]] = number
        stacks = {0: combined}
    else:
        stacks = dict(enumerate(masks.values(), start=1))
    groups, frames = Items(), []
    for number, stack in stacks.items():
        for place in reversed(range(len(series))):
            if all_frames or stack[place].any():
                position = _item(ImagePositionPatient=series[place].ImagePositionPatient)
                group = _item(PlanePositionSequence=Items([position]))
                if number:
                    group.SegmentIdentificationSequence = Items([_item(ReferencedSegmentNumber=number)])
                groups.append(group)
                frames.append(stack[place])
    dicom.PerFrameFunctionalGroupsSequence = groups
    dicom.NumberOfFrames, dicom.Rows, dicom.Columns = len(frames), first.Rows, first.Columns
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.PixelRepresentation = 1, "MONOCHROME2", 0
    bits = 1 if kind == "BINARY" else 8
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = bits, bits, bits - 1
    pixels = np.array(frames, float).reshape(len(frames), first.Rows, first.Columns)
    if kind == "FRACTIONAL":
        dicom.SegmentationFractionalType, dicom.MaximumFractionalValue = "PROBABILITY", 200
        pixels = np.rint(pixels * 200)
    pixels = pixels.astype(np.uint8)
    dicom.PixelData = pack_bits(pixels) if bits == 1 else pixels.tobytes() + b"\0" * (pixels.size % 2)
    return dicom


def decimals(values: Iterable[float]) -> list[DSfloat]:
    """Numbers in the 16 characters that DICOM's decimal strings have."""
    return [DSfloat(float(value), auto_format=True) for value in values]


def save(dicom: FileDataset, path: Path) -> Path:
    """Write a data set and return where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dicom.save_as(path, enforce_file_format=True)
    return path


def _contour(points: np.ndarray, series: Sequence[FileDataset], digits: int) -> Dataset:
    item = _item(
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.{digits}f}" for value in np.asarray(points).ravel()],
    )
    orientation = np.reshape(series[0].ImageOrientationPatient, (2, 3)).astype(float)
    heights = [np.cross(*orientation) @ np.array(slice_.ImagePositionPatient, float) for slice_ in series]
    nearest = int(np.abs(np.array(heights) - np.cross(*orientation) @ points[0]).argmin())
    item.ContourImageSequence = Items([_reference(series[nearest])])
    return item


def _reference(dicom: Dataset) -> Dataset:
    return _item(ReferencedSOPClassUID=dicom.SOPClassUID, ReferencedSOPInstanceUID=dicom.SOPInstanceUID)


def _item(**elements: object) -> Dataset:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return item
