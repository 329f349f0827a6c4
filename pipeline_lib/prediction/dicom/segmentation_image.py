"""A segmentation as a DICOM-SEG, one segment per ROI and one frame per slice in which it has voxels.

highdicom describes the frames of one segment that fills the series; each ROI takes those of its slices. So memory holds
one mask and the packed bits, not all masks at once. Segments may overlap. One without a voxel has no frame.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

from ...datasets.dicom.series import CtSeries
from ...errors import UserError
from ...reporting.style import roi_colours
from .codes import Code, coded
from .objects import NAME, SERIES_NUMBER, Maker, code_item, header_faults, item, source_headers

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

_BYTE = 8


def check_highdicom() -> None:
    """Raise UserError if the package that writes DICOM-SEG is not installed."""
    if find_spec("highdicom") is None:
        remedy = "install it with `pip install highdicom`, or choose another format"
        raise UserError("--format", "dicom-seg needs the package highdicom, which is not installed", remedy)


class SegmentationImage:
    """A DICOM-SEG of ROIs on a series (MaskObject)."""

    def __init__(self, series: CtSeries, rois: tuple[str, ...], maker: Maker) -> None:
        """Raises UserError if a slice's header lacks what frames refer to."""
        self._series, self._rois, self._maker = series, rois, maker
        self._sources = source_headers(series)
        self._frames: list[tuple[int, int]] = []
        self._bits = bytearray()
        self._left_over = np.zeros(0, bool)
        self._claimed = np.zeros(series.grid.shape, bool)
        self._overlap = False

    def add(self, roi: str, mask: np.ndarray) -> None:
        """Add a frame for each slice in which a ROI's mask (bool D H W) has a voxel."""
        segment = self._rois.index(roi) + 1
        for place in np.flatnonzero(mask.any(axis=(1, 2))):
            self._add_frame(segment, int(place), mask[place])
            self._overlap |= bool((mask[place] & self._claimed[place]).any())
            self._claimed[place] |= mask[place]

    def dataset(self) -> Dataset:
        """The DICOM-SEG; raises UserError if the series' header cannot be repeated."""
        if not self._frames:
            # There must be one frame at least.
            self._add_frame(1, 0, np.zeros(self._series.grid.shape[1:], bool))
        with header_faults(self._series):
            made = self._template()
            groups = {_slice_uid(group): group for group in made.PerFrameFunctionalGroupsSequence}
            uids = [source.SOPInstanceUID for source in self._sources]
            made.PerFrameFunctionalGroupsSequence = [
                _of_segment(groups[uids[place]], segment) for segment, place in self._frames
            ]
        made.NumberOfFrames = len(self._frames)
        made.SegmentsOverlap = "YES" if self._overlap else "NO"
        pixels = bytes(self._bits) + np.packbits(self._left_over, bitorder="little").tobytes()
        made.PixelData = pixels + b"\0" * (len(pixels) % 2)
        return made

    def _add_frame(self, segment: int, place: int, pixels: np.ndarray) -> None:
        """Frames follow each other without a gap, so one may begin within a byte."""
        self._frames.append((segment, place))
        pending = np.concatenate([self._left_over, pixels.ravel()])
        whole = len(pending) // _BYTE * _BYTE
        self._bits += np.packbits(pending[:whole], bitorder="little").tobytes()
        self._left_over = pending[whole:]

    def _template(self) -> Dataset:
        """All of the object but its frames: those are of the first segment, one for every slice."""
        from highdicom import PixelMeasuresSequence
        from highdicom.seg import Segmentation, SegmentationTypeValues

        grid, source = self._series.grid, self._sources[0]
        descriptions = self._descriptions()
        made: Dataset = Segmentation(
            source_images=self._sources,
            pixel_array=np.ones(grid.shape, np.uint8),
            segmentation_type=SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions[:1],
            series_instance_uid=generate_uid(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer=NAME,
            manufacturer_model_name=NAME,
            software_versions=self._maker.version,
            device_serial_number=self._maker.serial,
            content_label="SEGMENTATION",
            content_description="Computed, not reviewed",
            series_description=f"{NAME} {self._maker.version}",
            pixel_measures=PixelMeasuresSequence(
                pixel_spacing=[float(side) for side in source.PixelSpacing],
                slice_thickness=float(source.SliceThickness),
                spacing_between_slices=grid.spacing_mm[2],
            ),
        )
        made.ContentCreatorName = ""
        made.SegmentSequence = descriptions
        # With a single segment it stands in the groups that frames share, and frames count as slices of one volume.
        del made.SharedFunctionalGroupsSequence[0].SegmentIdentificationSequence
        if "DimensionOrganizationType" in made:
            del made.DimensionOrganizationType
        return made

    def _descriptions(self) -> list[SegmentDescription]:
        from highdicom import AlgorithmIdentificationSequence
        from highdicom.color import CIELabColor
        from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
        from pydicom.sr.codedict import codes

        algorithm = AlgorithmIdentificationSequence(
            name=NAME,
            family=codes.DCM.ArtificialIntelligence,
            version=self._maker.version,
            parameters={"models": " ".join(self._maker.models)},
        )
        made = []
        for number, (roi, colour) in enumerate(zip(self._rois, roi_colours(self._rois), strict=True), start=1):
            kind = coded(roi)
            description = SegmentDescription(
                segment_number=number,
                segment_label=roi,
                segmented_property_category=_concept(kind.category),
                segmented_property_type=_concept(kind.type),
                algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=generate_uid(),
                tracking_id=roi,
                anatomic_regions=[_concept(kind.region)] if kind.region else None,
                display_color=CIELabColor.from_rgb(*colour),
            )
            if kind.side:
                side = Items([code_item(kind.side)])
                if kind.region:
                    description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = side
                else:
                    description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = side
            made.append(description)
        return made


def _concept(code: Code) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _slice_uid(group: Dataset) -> str:
    """The slice that a frame was made from."""
    return group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID


def _of_segment(group: Dataset, segment: int) -> Dataset:
    """The description of a slice's frame, for a segment."""
    made = copy.deepcopy(group)
    made.SegmentIdentificationSequence = Items([item(ReferencedSegmentNumber=segment)])
    made.FrameContentSequence[0].DimensionIndexValues[0] = segment
    return made
