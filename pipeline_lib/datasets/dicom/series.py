"""The CT series in a folder of DICOM files as one image in HU, with the identity of each slice.

Slices are put in order by where they lie, never by name or number. What would make an image wrong without a sign of it
(slices that are missing, doubled, unevenly spaced, sheared by a tilted gantry or cut off) is refused in one line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.pixels import get_decoder
from pydicom.uid import UID

from ...errors import UserError
from ...geometry import ALIGNED_WITHIN_VOXELS, Geometry
from ...gzip_stream import AGAIN
from ...nifti import checked_right_angles
from .files import READ_ERRORS, DicomFile, contents, dicom_files, read_dicom

_CT = "1.2.840.10008.5.1.4.1.1.2"
_MULTI_FRAME_CT = (f"{_CT}.1", f"{_CT}.2")
_NEEDED = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "BitsAllocated", "RescaleIntercept")
"""Elements throughout a header. A slice that lacks one is named, so that it is not taken for another kind of image."""
_SAME_PLACE_MM = 0.01
_PARALLEL_WITHIN = 0.01
"""Direction cosines of slices of one stack; localisers that do not say so are at right angles to it."""
_UNIT_WITHIN = 1e-3
_EXPORT = "export the whole series again, or list the case under `skip:`"


@dataclass(frozen=True)
class CtSeries:
    """A CT on its own right-angled grid (LPS).

    `slices` are in the order of the image's third axis. `notes` say what is odd about it.
    """

    grid: Geometry
    slices: tuple[DicomFile, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def image(self) -> sitk.Image:
        """The image in HU, read when asked for; raises UserError if a slice is cut off."""
        return self.grid.image(_voxels(self.slices))

    @property
    def frame_of_reference_uid(self) -> str:
        """Empty where the slices do not say it."""
        return self.slices[0].text("FrameOfReferenceUID")


def read_ct_series(folder: Path, series_uid: str | None = None) -> CtSeries:
    """The only CT volume below a folder, or the one of the series named.

    Localisers, screen captures, other modalities and files that are not DICOM do not count.

    Raises UserError if there is no such volume or more than one (it lists what is there), if files are of two patients
    or cut off in their headers, and if slices are missing, doubled, unevenly spaced or sheared.
    """
    files = dicom_files(folder)
    volumes = ct_volumes(files)
    wanted = [volume for volume in volumes if series_uid in (None, volume[0].text("SeriesInstanceUID"))]
    if volumes and not wanted:
        listed = "; ".join(_description(volume) for volume in volumes)
        raise UserError(str(folder), f"has no CT volume in series {series_uid}, but {listed}", "name one of these")
    return placed_series(folder, files, the_only_volume(folder, files, wanted))


Volume = tuple[DicomFile, ...]
"""Slices of one series that agree in orientation and size, in no order."""


def ct_volumes(files: Sequence[DicomFile]) -> tuple[Volume, ...]:
    """The CT volumes among files: per series, orientation and size two slices or more that are not localisers.

    An instance that is there twice, byte by byte, counts once.
    """
    stacks: list[tuple[DicomFile, dict[str, DicomFile]]] = []
    for file in files:
        if file.text("SOPClassUID") == _CT and "LOCALIZER" not in file.text("ImageType"):
            for name in _NEEDED:
                file.get(name)
            stack = next((stack for first, stack in stacks if _belongs(file, first)), None)
            if stack is None:
                stack = {}
                stacks.append((file, stack))
            other = stack.setdefault(str(file.get("SOPInstanceUID")), file)
            if other is not file and other.path.read_bytes() != file.path.read_bytes():
                stack[str(file.path)] = file
    return tuple(tuple(stack.values()) for _, stack in stacks if len(stack) > 1)


def _belongs(file: DicomFile, other: DicomFile) -> bool:
    same = all(file.get(name) == other.get(name) for name in ("SeriesInstanceUID", "Rows", "Columns"))
    return same and _turned(file, other) <= _PARALLEL_WITHIN


def _turned(file: DicomFile, other: DicomFile) -> float:
    """The greatest difference between the direction cosines of two images."""
    one, two = (item.numbers("ImageOrientationPatient", 6) for item in (file, other))
    return float(np.abs(one - two).max())


def the_only_volume(folder: Path, files: Sequence[DicomFile], volumes: Sequence[Volume]) -> Volume:
    """The volume, if there is one; raises UserError, which lists what is there, if there are more or none."""
    if len(volumes) == 1:
        return volumes[0]
    if volumes:
        listed = "; ".join(_description(volume) for volume in volumes)
        raise UserError(
            str(folder), f"holds {len(volumes)} CT volumes: {listed}", "name the series, or keep one of them"
        )
    if any(file.text("SOPClassUID") in _MULTI_FRAME_CT for file in files):
        wrong = "holds a multi-frame (enhanced) CT, which is not read"
        raise UserError(str(folder), wrong, "export it as a series of single slices, or convert it to NIfTI")
    wrong = f"holds no CT volume, only {contents(files)}"
    raise UserError(str(folder), wrong, "give a folder with a CT series of two slices or more")


def _description(volume: Volume) -> str:
    first = volume[0]
    words = f" {first.text('SeriesDescription')!r}" if first.text("SeriesDescription") else ""
    return (
        f"{first.text('SeriesInstanceUID')} ({len(volume)} slices of {first.get('Columns')}×{first.get('Rows')}{words})"
    )


def placed_series(folder: Path, files: Sequence[DicomFile], volume: Volume) -> CtSeries:
    """A volume among the files of a folder, put in order; raises UserError as `read_ct_series` does."""
    first = volume[0]
    for file in volume:
        named = [name for name in ("PixelSpacing", "FrameOfReferenceUID") if file.text(name) != first.text(name)]
        named += ["ImageOrientationPatient"] if _turned(file, first) > _UNIT_WITHIN else []
        if named:
            wrong = f"has another {named[0]} than {first.path.name} of the same series"
            raise UserError(str(file.path), wrong, _EXPORT)
    row, column = _axes(first)
    normal = np.cross(row, column)
    positions = np.array([file.numbers("ImagePositionPatient", 3) for file in volume])
    order = np.argsort(positions @ normal, kind="stable")
    ordered, positions = [volume[place] for place in order], positions[order]
    _check_steps(folder, ordered, positions @ normal)
    down, right = first.numbers("PixelSpacing", 2).tolist()
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    spacing = float(np.linalg.norm(step))
    sheared = Geometry(
        size=(int(_number(first, "Columns")), int(_number(first, "Rows")), len(ordered)),
        spacing_mm=(right, down, spacing),
        origin_mm=tuple(positions[0]),
        direction=tuple(np.column_stack([row, column, step / spacing]).ravel()),
    )
    aside = positions - positions[0] - np.outer(np.arange(len(ordered)), step)
    if np.abs(aside).max() > ALIGNED_WITHIN_VOXELS * min(sheared.spacing_mm):
        wrong = f"has slices up to {np.abs(aside).max():.2g} mm off the straight line from the first to the last"
        raise UserError(str(folder), wrong, _EXPORT)
    grid, notes = checked_right_angles(folder, sheared)
    return CtSeries(grid, tuple(ordered), (*notes, *_left_out(files, volume)))


def _left_out(files: Sequence[DicomFile], volume: Volume) -> tuple[str, ...]:
    """A note if images of the volume's series are not part of it."""
    series, taken = volume[0].get("SeriesInstanceUID"), {file.get("SOPInstanceUID") for file in volume}
    rest = [
        file.path.name
        for file in files
        if file.get("SeriesInstanceUID") == series and file.get("SOPInstanceUID") not in taken
    ]
    images = "an image that is" if len(rest) == 1 else f"{len(rest)} images that are"
    return (f"leaves out {images} not of its volume (localisers?): {', '.join(rest[:5])}",) if rest else ()


def _axes(file: DicomFile) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along a row (to the next column) and down a column."""
    row, column = file.numbers("ImageOrientationPatient", 6).reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if np.abs(np.subtract(lengths, 1)).max() > _UNIT_WITHIN or abs(row @ column) > _UNIT_WITHIN:
        wrong = "has an ImageOrientationPatient that is not two unit vectors at right angles"
        raise UserError(str(file.path), wrong, _EXPORT)
    return row / lengths[0], column / lengths[1]


def _check_steps(folder: Path, files: Sequence[DicomFile], heights: np.ndarray) -> None:
    """Raise UserError unless slices, ordered by their height (mm) along the normal, are evenly spaced."""
    steps = np.diff(heights)
    if steps.min() < _SAME_PLACE_MM:
        place = int(steps.argmin())
        pair = " and ".join(file.path.name for file in files[place : place + 2])
        wrong = f"has two slices at the same place ({pair}; {int((steps < _SAME_PLACE_MM).sum())} such pairs)"
        raise UserError(str(folder), wrong, "keep one acquisition, phase or reconstruction in the folder")
    usual = float(np.median(steps))
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() <= ALIGNED_WITHIN_VOXELS * usual:
        return
    times = steps / usual
    if np.abs(times - np.rint(times)).max() <= ALIGNED_WITHIN_VOXELS:
        gap = int(times.argmax())
        pair = " and ".join(file.path.name for file in files[gap : gap + 2])
        missing = int((np.rint(times) - 1).sum())
        wrong = f"lacks {missing} slice{'s' * (missing > 1)}, of {usual:g} mm each: see between {pair}"
        raise UserError(str(folder), wrong, _EXPORT)
    wrong = f"has unevenly spaced slices ({steps.min():.3g} to {steps.max():.3g} mm)"
    raise UserError(str(folder), wrong, "resample it to even spacing, or list the case under `skip:`")


def _voxels(files: Sequence[DicomFile]) -> np.ndarray:
    """HU (D H W): int16 or int32 where all slopes and intercepts are whole numbers, float32 otherwise."""
    scales = [(_number(file, "RescaleSlope"), _number(file, "RescaleIntercept")) for file in files]
    for file, (slope, _) in zip(files, scales, strict=True):
        if slope == 0:
            raise UserError(str(file.path), "has a RescaleSlope of 0, which makes all its voxels alike", _EXPORT)
        if file.text("RescaleType").upper() not in ("", "HU", "US"):
            wrong = f"holds values in {file.text('RescaleType')} instead of HU"
            raise UserError(str(file.path), wrong, "give a CT in Hounsfield units")
    slices = [_hounsfield(file, *scale) for file, scale in zip(files, scales, strict=True)]
    if not all(number.is_integer() for scale in scales for number in scale):
        return np.stack(slices).astype(np.float32)
    low, high = min(plane.min() for plane in slices), max(plane.max() for plane in slices)
    limits = np.iinfo(np.int16)
    return np.stack(slices, dtype=np.int16 if limits.min <= low and high <= limits.max else np.int32, casting="unsafe")


def _number(file: DicomFile, name: str) -> float:
    return float(file.numbers(name, 1)[0])


def _hounsfield(file: DicomFile, slope: float, intercept: float) -> np.ndarray:
    """A slice (H W) in HU.

    Compressed pixels that pydicom has no decoder for are left to GDCM in ITK, which applies slope and intercept itself.
    """
    if _number(file, "SamplesPerPixel") != 1:
        raise UserError(str(file.path), "holds colours instead of one number per pixel", _EXPORT)
    shape = _number(file, "Rows"), _number(file, "Columns")
    try:
        dicom = read_dicom(file.path)
        if _can_be_decoded(dicom.file_meta.TransferSyntaxUID):
            plane = dicom.pixel_array * np.float64(slope) + intercept
        else:
            plane = sitk.GetArrayFromImage(sitk.ReadImage(str(file.path), imageIO="GDCMImageIO"))[0]
    except READ_ERRORS as error:
        wrong = f"is cut off or damaged ({' '.join(str(error).split())[:200]})"
        raise UserError(str(file.path), wrong, AGAIN) from error
    if plane.shape != shape:
        raise UserError(str(file.path), "is not one slice of the size that its header says", _EXPORT)
    return plane.astype(np.float32 if not (slope.is_integer() and intercept.is_integer()) else np.int32)


def _can_be_decoded(syntax: UID) -> bool:
    """Whether pydicom reads pixels of a transfer syntax with what is installed."""
    try:
        return not syntax.is_encapsulated or get_decoder(syntax).is_available
    except NotImplementedError:
        return False
