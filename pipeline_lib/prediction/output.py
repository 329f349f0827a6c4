"""A segmentation as files in a folder of its own, written ROI by ROI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from .. import nifti_writer
from ..errors import UserError
from ..files import atomic_write, write_json
from ..geometry import to_canonical
from ..inference.sliding_window import PROBABILITY_STEPS
from ..label_bits import MOST_ROIS, add_mask, bits_dtype, write_roi_bits
from .confidence import Confidence
from .ct import Ct
from .label_map import RULE, LabelMap
from .preview import write_preview
from .segmentation import Segmentation
from .statistics import RoiStatistics, as_json, write_csv

if TYPE_CHECKING:
    from ..datasets.dicom.series import CtSeries
    from .dicom.objects import Maker, MaskObject

Format = Literal["labels", "masks", "bits", "dicom-seg", "rtstruct"]
FORMATS: tuple[Format, ...] = get_args(Format)
_DICOM_FILES: dict[Format, str] = {"dicom-seg": "segmentation.dcm", "rtstruct": "rtstruct.dcm"}

_SLOPE = float(np.nextafter(np.float32(1 / PROBABILITY_STEPS), np.float32(0)))
"""What a step of a probability's byte is in the file's float32, so that the highest does not read as more than 1."""
RESULT = "result.json"
"""Says what a case's folder holds, and by which models; marks it as one that may be overwritten."""


@dataclass(frozen=True)
class Wanted:
    """What is written of each case: masks in one or more formats, and what else."""

    formats: tuple[Format, ...] = ("labels",)
    statistics: bool = False
    preview: bool = False
    probabilities: bool = False


def check_formats(wanted: Wanted, rois: int) -> None:
    """Raise UserError if so many ROIs do not fit into a format, or if a package that writes it is not installed."""
    if "bits" in wanted.formats and rois > MOST_ROIS:
        raise UserError("--format", f"bits holds {MOST_ROIS} ROIs, and the model has {rois}", "choose labels or masks")
    if "dicom-seg" in wanted.formats:
        from .dicom.segmentation_image import check_highdicom

        check_highdicom()


def check_source(wanted: Wanted, ct: Ct) -> None:
    """Raise UserError if a format needs to refer to DICOM slices and the CT has none."""
    dicom = [name for name in wanted.formats if name in _DICOM_FILES]
    if dicom and ct.series is None:
        remedy = "give the CT as DICOM, or choose another format"
        raise UserError(ct.source, f"is not DICOM, and --format {dicom[0]} refers to DICOM slices", remedy)


def write_segmentation(
    segmentation: Segmentation,
    folder: Path,
    wanted: Wanted,
    version: str,
    on_roi: Callable[[str], None] = lambda roi: None,
) -> dict[str, Confidence]:
    """Write into `folder`, which is empty, what is wanted of a segmentation; returns the confidence in each ROI.

    labels.nii.gz is a label map, masks/ROI.nii.gz are masks of 0 and 1, bits.nii.gz with rois.json are the pipeline's
    own ROI bits, segmentation.dcm is a DICOM-SEG, rtstruct.dcm has contours, probabilities/ROI.nii.gz read as 0 … 1;
    statistics.json and .csv, preview.png, and always result.json.
    """
    ct, rois = segmentation.ct, segmentation.rois
    labels = LabelMap(ct.grid, rois) if "labels" in wanted.formats or wanted.preview else None
    bits = np.zeros(ct.grid.shape, bits_dtype(len(rois))) if "bits" in wanted.formats else None
    rows: list[RoiStatistics] = []
    confidences: dict[str, Confidence] = {}
    dicom = _dicom_objects(segmentation, wanted, version)

    def write(name: str, voxels: np.ndarray, slope: float | None = None) -> None:
        nifti_writer.write_nifti(folder / f"{name}.nii.gz", voxels, ct.grid, ct.placement, slope)

    for index, part in enumerate(segmentation.parts()):
        if labels is not None:
            labels.add(part.roi, part.box, part.probability)
        if bits is not None:
            add_mask(to_canonical(bits, ct.grid), index, part.mask, part.box)
        if "masks" in wanted.formats:
            write(f"masks/{part.roi}", segmentation.whole(part.box, part.mask.astype(np.uint8)))
        for made in dicom.values():
            made.add(part.roi, segmentation.whole(part.box, part.mask))
        if wanted.probabilities:
            whole = segmentation.whole(part.box, part.probability)
            write(f"probabilities/{part.roi}", whole, slope=_SLOPE)
        if wanted.statistics or wanted.preview:
            rows.append(segmentation.measured(part))
        confidences[part.roi] = part.confidence
        on_roi(part.roi)
    if bits is not None:
        write_roi_bits(folder / "bits.nii.gz", bits, ct.grid, rois, ct.placement)
    if labels is not None and "labels" in wanted.formats:
        write("labels", labels.values)
    for file, made in dicom.items():
        with atomic_write(folder / file) as partial:
            made.dataset().save_as(partial, enforce_file_format=True)
    if wanted.statistics:
        write_json(folder / "statistics.json", as_json(rows))
        write_csv(folder / "statistics.csv", [(ct.name, rows)])
    if wanted.preview and labels is not None:
        write_preview(folder / "preview.png", ct, labels, rows, _footer(segmentation, version))
    write_json(folder / RESULT, _result(segmentation, labels, version))
    return confidences


def _dicom_objects(segmentation: Segmentation, wanted: Wanted, version: str) -> dict[str, MaskObject]:
    """File → what is to be written into it; raises UserError if the CT's slices lack what that refers to."""
    series = segmentation.ct.series
    if series is None or not set(wanted.formats) & set(_DICOM_FILES):
        return {}
    from .dicom.objects import Maker
    from .dicom.segmentation_image import SegmentationImage
    from .dicom.structure_set import StructureSet

    maker = Maker.of(version, segmentation.made_by)
    kinds: dict[Format, Callable[[CtSeries, tuple[str, ...], Maker], MaskObject]] = {
        "dicom-seg": SegmentationImage,
        "rtstruct": StructureSet,
    }
    return {
        _DICOM_FILES[name]: kind(series, segmentation.rois, maker)
        for name, kind in kinds.items()
        if name in wanted.formats
    }


def _result(segmentation: Segmentation, labels: LabelMap | None, version: str) -> dict[str, Any]:
    content: dict[str, Any] = {
        "lacuna": version,
        "ct": segmentation.ct.source,
        "notes": list(segmentation.ct.notes),
        **segmentation.made_by,
    }
    if labels is not None:
        content["labels"] = {roi: value for value, roi in enumerate(segmentation.rois, start=1)}
        content["label_rule"] = RULE
        content["voxels_claimed_twice"] = labels.contested
    else:
        content["rois"] = list(segmentation.rois)
    return content


def _footer(segmentation: Segmentation, version: str) -> str:
    made_by = segmentation.made_by
    models = ", ".join(Path(model["file"]).name for model in made_by["models"])
    fast = ", fast mode: less exact where windows meet" if made_by["fast"] else ""
    return f"Lacuna {version}, {models}{fast}. Computed, not reviewed; not for diagnosis."
