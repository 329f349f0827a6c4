"""One case of a data set, read as it lies on disk; where that is, its layout says (config.layouts).

Nothing here depends on the order of voxel axes: where a voxel lies follows from the image's direction matrix alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import SimpleITK as sitk

from ..config.datasets import Dataset
from ..config.label_names import MatchedNames
from ..config.labelling import Labelling, label_names, label_values
from ..config.layouts import PUBLISHED, Layout, LayoutName, published
from ..errors import UserError
from ..geometry import Geometry
from ..nifti import Placement
from .case_labels import CaseLabels, GridCheck, LabelMapLabels, MaskLabels, voxels_of
from .descriptions import file_ending
from .images import ReadImage, read_image_with_notes
from .label_values import check_values, whole_labels
from .mask_files import find_masks

if TYPE_CHECKING:
    from .dicom.case import DicomCase

_NOTHING = Labelling()


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's image and labels lie: one label map, or the masks of each labelled target, one for each part.

    `names` says how the names of the masks matched those of the ROIs, where ROIs have names. With `dicom`, the image is
    a folder that holds the labels too; a case `without_labels` is not asked for any.
    """

    image: Path
    label_map: Path | None
    masks: Mapping[str, tuple[Path, ...]]
    names: MatchedNames | None = None
    dicom: bool = False
    without_labels: bool = False


@dataclass(frozen=True)
class RawCase:
    """A case as published; `notes` and `placement` are those of the image (images.ReadImage)."""

    files: CaseFiles
    image: sitk.Image
    labels: CaseLabels
    notes: tuple[str, ...] = ()
    placement: Placement | None = None

    @property
    def labelled(self) -> tuple[str, ...]:
        """The targets that the case labels, in the order of the targets."""
        return self.labels.labelled


def case_files(
    layout: LayoutName | Layout, root: Path, case: str, targets: tuple[str, ...], labelling: Labelling = _NOTHING
) -> CaseFiles:
    """Where the files of `case` are or should be.

    Nothing is read but nnU-Net's dataset.json and, where ROIs have names, the names of the masks. Raises UserError if
    two masks are the same ROI's.
    """
    files = published(layout).files
    ending = file_ending(root) if files.needs_ending else ""
    image = root / files.image.format(case=case, ending=ending)
    if labelling.labels_nothing or files.labels is None:
        return CaseFiles(image, None, {}, dicom=published(layout).dicom, without_labels=True)
    if published(layout).dicom:
        return CaseFiles(image, None, {}, dicom=True)
    if not files.has_masks:
        return CaseFiles(image, root / files.labels.format(case=case, ending=ending), {})
    template = files.labels.format(case=case, ending=ending, structure="{structure}")
    found = find_masks(root, template, targets, label_names(labelling.labels), labelling.labelled, image)
    return CaseFiles(image, None, found.masks, found.names)


def case_files_of_all_labels(dataset: Dataset, root: Path, case: str, targets: tuple[str, ...]) -> CaseFiles:
    """Where all files of `case` are or should be, whichever ROIs it labels; a data set without labels has none of them.

    Raises UserError as `case_files` does.
    """
    labelling = dataset.labelling(case) if dataset.has_no_labels else _NOTHING
    return case_files(dataset.layout, root, case, targets, labelling)


def better_layout(layout: LayoutName | Layout, root: Path, case: str) -> str:
    """What to change so that a missing image of `case` is found, in words; empty if no published layout has it."""
    bare = case.removesuffix("_0000")
    if bare != case and _has_image(layout, root, bare):
        return f"name the case without its channel, {bare}"
    fitting = next((name for name in PUBLISHED if name != layout and _has_image(name, root, case)), "")
    return f"its files lie as in the layout {fitting}: correct `layout`" if fitting else ""


def _has_image(layout: LayoutName | Layout, root: Path, case: str) -> bool:
    try:
        return case_files(layout, root, case, ()).image.is_file()
    except UserError:  # a dataset.json that cannot be used, perhaps of another kind
        return False


def read_case(
    layout: LayoutName | Layout, root: Path, case: str, targets: tuple[str, ...], labelling: Labelling = _NOTHING
) -> RawCase:
    """Read the case's image and, where there is one, its label map.

    Raises UserError naming the file that is missing, damaged, on another grid than the image, or that holds a label
    value which belongs to no ROI.
    """
    files = case_files(layout, root, case, targets, labelling)
    if files.dicom and not files.without_labels:
        opened, labels = _read_dicom(files.image, targets, labelling)
        return RawCase(files, opened.ct.image, labels, opened.notes)
    read = read_case_image(files)
    labels = read_labels(files, targets, labelling, same_grid(read.image, files.image))
    return RawCase(files, read.image, labels, read.notes, read.placement)


def read_case_image(files: CaseFiles) -> ReadImage:
    """A case's image without its labels; raises UserError if it is missing or faulty."""
    if not files.dicom:
        return read_image_with_notes(files.image)
    if files.without_labels:
        from .dicom.series import read_ct_series

        series = read_ct_series(files.image)
        return ReadImage(series.image, series.notes)
    opened, _ = _read_dicom(files.image, (), _NOTHING)
    return ReadImage(opened.ct.image, opened.notes)


def _read_dicom(folder: Path, targets: tuple[str, ...], labelling: Labelling) -> tuple[DicomCase, CaseLabels]:
    """A DICOM folder and its labels. Only this layout needs pydicom, so only here it is imported."""
    from .dicom.case import read_dicom_case
    from .dicom.labels import DicomLabels

    opened = read_dicom_case(folder)
    return opened, DicomLabels.of(opened, targets, labelling)


def read_labels(files: CaseFiles, targets: tuple[str, ...], labelling: Labelling, check_grid: GridCheck) -> CaseLabels:
    """The labels of a case without its image; `check_grid` is called with each label file that is read.

    Raises UserError naming the file if it is missing, damaged or holds a value that belongs to no ROI.
    """
    if files.dicom and not files.without_labels:
        opened, labels = _read_dicom(files.image, targets, labelling)
        check_grid(files.image, opened.ct.grid)
        return labels
    if files.label_map is None:
        return MaskLabels(files.masks, check_grid, files.names)
    label_map = whole_labels(files.label_map, voxels_of(files.label_map, check_grid))
    check_values(files.label_map, label_map, labelling.known_values)
    values = label_values(labelling.labels)
    labelled = [target for target in targets if labelling.labels_roi(target)]
    return LabelMapLabels(
        label_map,
        {target: values[target] for target in labelled},
        {target: labelling.unknown_values(target) for target in labelled},
    )


def same_grid(image: sitk.Image, image_path: Path) -> GridCheck:
    """A check that raises UserError for a label file that is not on the image's grid."""
    expected = Geometry.from_image(image)

    def check(path: Path, grid: Geometry) -> None:
        if wrong := grid.difference(expected):
            wrong = f"is not on the grid of {image_path.name}: {wrong}"
            remedy = "resample the label onto the image's grid, or list the case under `skip:`"
            raise UserError(str(path), wrong, remedy)

    return check
