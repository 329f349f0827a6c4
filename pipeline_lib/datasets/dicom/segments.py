"""A DICOM-SEG's segments as masks on the grid of the CT series that they were made on.

Each frame goes to the slice where its ImagePositionPatient puts it, whatever the order of frames. Slices without a
frame hold nothing of the segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
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
        numbers = [int(item.SegmentNumber) for item in self.dicom.SegmentSequence if item.get("SegmentLabel") == name]
        if len(numbers) != 1:
            raise UserError(str(self.path), f"has {len(numbers)} segments labelled {name!r}", "rename all but one")
        mask = np.zeros(self.grid.shape, bool)
        for index, (place, number) in enumerate(self._frames):
            if number in (numbers[0], None):
                mask[place] |= self._frame(index, numbers[0])
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
        highest = self.dicom.MaximumFractionalValue if self.dicom.SegmentationType == _FRACTIONAL else 1
        return pixels >= highest / 2

    def _bits(self, index: int) -> np.ndarray:
        """uint8 H W of one frame of single bits; pydicom 3.0 fails for frames that do not begin with a byte."""
        height, width = self.grid.shape[1:]
        first, last = index * height * width, (index + 1) * height * width
        packed = np.frombuffer(self.dicom.PixelData, np.uint8)[first // 8 : -(-last // 8)]
        return np.unpackbits(packed, bitorder="little")[first % 8 :][: height * width].reshape(height, width)


_GROUPS = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "SegmentIdentificationSequence",
)
