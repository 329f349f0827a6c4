"""A DICOM-SEG's segments as masks on the grid of the CT series that they were made on.

Each frame goes to the slice where its ImagePositionPatient puts it, whatever the order of frames. Slices without a
frame hold nothing of the segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels import pixel_array

from ...errors import UserError
from ...geometry import SAME_WITHIN_VOXELS, Geometry
from ...gzip_stream import AGAIN
from .files import READ_ERRORS

_BINARY, _FRACTIONAL, _LABEL_MAP = "BINARY", "FRACTIONAL", "LABELMAP"
_RESAMPLE = "export it on the grid of the CT, or list the case under `skip:`"


@dataclass(frozen=True)
class Segmentation:
    """The segments of a DICOM-SEG, each read when asked for."""

    path: Path
    dicom: FileDataset
    grid: Geometry

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the segments, those without a voxel included: they are labelled, and absent."""
        return tuple(str(item.get("SegmentLabel", "")) for item in self.dicom.get("SegmentSequence") or ())

    def mask(self, name: str) -> np.ndarray:
        """bool D H W of a segment; of a fractional one where it reaches one half.

        Raises UserError if two segments have this label, or if a frame of it is cut off or off the series' grid.
        """
        items = [item for item in self.dicom.SegmentSequence if str(item.get("SegmentLabel", "")) == name]
        if len(items) != 1:
            raise UserError(str(self.path), f"has {len(items)} segments labelled {name!r}", "rename all but one")
        number = _whole_number(self.path, items[0], "SegmentNumber")
        mask = np.zeros(self.grid.shape, bool)
        for index, (place, held) in enumerate(self._frames):
            if held in (number, None):
                mask[place] |= self._frame(index, number)
        return mask

    @cached_property
    def _frames(self) -> tuple[tuple[int, int | None], ...]:
        """For each frame its slice, and its segment's number (None for a label map, which holds all segments)."""
        kind = self.dicom.get("SegmentationType")
        if kind not in (_BINARY, _FRACTIONAL, _LABEL_MAP):
            raise UserError(str(self.path), f"is a segmentation of the kind {kind}", "export it as binary segments")
        if (self.dicom.get("Rows"), self.dicom.get("Columns")) != self.grid.shape[1:]:
            wrong = f"has frames of {self.dicom.get('Columns')}×{self.dicom.get('Rows')} pixels, unlike its CT"
            raise UserError(str(self.path), wrong, _RESAMPLE)
        frames = []
        try:
            shared = (self.dicom.get("SharedFunctionalGroupsSequence") or [{}])[0]
            for own in self.dicom.get("PerFrameFunctionalGroupsSequence") or ():
                groups = {key: (own.get(key) or shared.get(key) or [None])[0] for key in _GROUPS}
                place = self._slice(*(groups[key] for key in _GROUPS[:3]))
                number = None if kind == _LABEL_MAP else int(groups[_GROUPS[3]].ReferencedSegmentNumber)
                frames.append((place, number))
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(str(self.path), f"does not say where its frames lie ({error})", AGAIN) from error
        return tuple(frames)

    def _slice(self, position: object, orientation: object, measures: object) -> int:
        """The slice whose pixels a frame's pixels are; raises UserError if they are not those of any slice."""
        height, width = self.grid.shape[1:]
        row, column = np.reshape(np.array(orientation.ImageOrientationPatient, np.float64), (2, 3))
        down, right = (float(side) for side in measures.PixelSpacing)
        first = np.array(position.ImagePositionPatient, np.float64)
        steps = np.array([(0, 0), (width - 1, 0), (0, height - 1)])
        corners = first + steps[:, :1] * right * row + steps[:, 1:] * down * column
        index = self.grid.continuous_index(corners)
        place = int(np.rint(index[0, 2]))
        if np.abs(index - np.column_stack([steps, np.full(3, place)])).max() > SAME_WITHIN_VOXELS:
            raise UserError(str(self.path), "has frames that are not on the grid of its CT", _RESAMPLE)
        if not 0 <= place < self.grid.shape[0]:
            raise UserError(str(self.path), "has frames beyond the slices of its CT", "give the whole series")
        return place

    def _frame(self, index: int, number: int) -> np.ndarray:
        """bool H W of one frame's segment."""
        try:
            packed = self.dicom.BitsAllocated == 1 and not self.dicom.file_meta.TransferSyntaxUID.is_encapsulated
            pixels = self._bits(index) if packed else pixel_array(self.dicom, index=index)
        except READ_ERRORS as error:
            wrong = f"is cut off or damaged ({' '.join(str(error).split())[:200]})"
            raise UserError(str(self.path), wrong, AGAIN) from error
        if self.dicom.SegmentationType == _LABEL_MAP:
            return pixels == number
        if self.dicom.SegmentationType == _BINARY:
            return pixels > 0
        return pixels >= _whole_number(self.path, self.dicom, "MaximumFractionalValue") / 2

    def _bits(self, index: int) -> np.ndarray:
        """uint8 H W of one frame of single bits; pydicom 3.0 fails for frames that do not begin with a byte."""
        height, width = self.grid.shape[1:]
        first, last = index * height * width, (index + 1) * height * width
        packed = np.frombuffer(self.dicom.PixelData, np.uint8)[first // 8 : -(-last // 8)]
        return np.unpackbits(packed, bitorder="little")[first % 8 :][: height * width].reshape(height, width)


def _whole_number(path: Path, dicom: Dataset, name: str) -> int:
    """An element of 1 or more; raises UserError if it is missing or something else."""
    value = dicom.get(name)
    if not isinstance(value, int) or value < 1:
        raise UserError(str(path), f"lacks {name}, or it is not a number from 1", "export it again")
    return value


_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "SegmentIdentificationSequence",
)
