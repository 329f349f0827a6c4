"""One case of a data set in its published layout, read as it lies on disk.

Layouts (below the data set's root folder):

    msd, nnunet          imagesTr/CASE.nii.gz (nnunet: CASE_0000.nii.gz), labelsTr/CASE.nii.gz
    kits19               data/CASE/imaging.nii.gz, data/CASE/segmentation.nii.gz
    totalsegmentator_*   CASE/ct.nii.gz, CASE/segmentations/STRUCTURE.nii.gz

KiTS19 stores its axes as (slice, row, column). Nothing here depends on the order of axes: where a voxel lies follows
from the image's direction matrix alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..config.datasets import Layout
from ..errors import UserError
from ..files import read_json
from .images import grid_difference, read_image

Labels = Mapping[str, tuple[int, ...]]
"""ROI → label values that make it."""


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's image and labels lie: one label map, or one mask for each target."""

    image: Path
    label_map: Path | None
    masks: Mapping[str, Path]


@dataclass(frozen=True)
class RawCase:
    """A case as published. `labelled` are the targets that it labels, in the order of the targets."""

    files: CaseFiles
    image: sitk.Image
    labelled: tuple[str, ...]
    _labels: Labels
    _label_map: np.ndarray | None

    def mask(self, target: str) -> np.ndarray:
        """bool D H W of a labelled target on the image's grid, read when asked for.

        Raises UserError if its file is faulty or lies on another grid than the image.
        """
        if self._label_map is None:
            return read_on_grid(self.files.masks[target], self.image, self.files.image) > 0
        return voxels_with(self._label_map, self._labels[target])

    def masks(self) -> Iterator[tuple[str, np.ndarray]]:
        """(target, mask) of each labelled target in turn, as `mask` reads it."""
        for target in self.labelled:
            yield target, self.mask(target)

    def parts(self, target: str) -> tuple[str, ...]:
        """The labelled targets that lie within `target` by definition: a tumour in its organ."""
        if self._label_map is None:
            return ()
        values = set(self._labels[target])
        return tuple(other for other in self.labelled if set(self._labels[other]) < values)


def case_files(layout: Layout, root: Path, case: str, targets: tuple[str, ...]) -> CaseFiles:
    """Where the files of `case` should be; nothing is read but nnU-Net's dataset.json."""
    if layout == "msd":
        return CaseFiles(root / "imagesTr" / f"{case}.nii.gz", root / "labelsTr" / f"{case}.nii.gz", {})
    if layout == "nnunet":
        ending = _nnunet_ending(root)
        return CaseFiles(root / "imagesTr" / f"{case}_0000{ending}", root / "labelsTr" / f"{case}{ending}", {})
    if layout == "kits19":
        folder = root / "data" / case
        return CaseFiles(folder / "imaging.nii.gz", folder / "segmentation.nii.gz", {})
    folder = root / case
    masks = {target: folder / "segmentations" / f"{target}.nii.gz" for target in targets}
    return CaseFiles(folder / "ct.nii.gz", None, masks)


def read_case(
    layout: Layout,
    root: Path,
    case: str,
    labels: Labels,
    targets: tuple[str, ...],
    ignored_labels: tuple[int, ...] = (),
) -> RawCase:
    """Read the case's image and, where there is one, its label map.

    Raises UserError naming the file that is missing, damaged, on another grid than the image, or that holds a label
    value which belongs to no ROI.
    """
    files = case_files(layout, root, case, targets)
    image = read_image(files.image)
    if files.label_map is None:
        return RawCase(files, image, targets, labels, None)
    label_map = read_on_grid(files.label_map, image, files.image)
    _check_values(files.label_map, label_map, labels, ignored_labels)
    return RawCase(files, image, tuple(target for target in targets if target in labels), labels, label_map)


def read_label_map(path: Path, labels: Labels, ignored_labels: tuple[int, ...] = ()) -> sitk.Image:
    """A case's label map on its own, for those who have no use for the image.

    Raises UserError naming the file if it is missing, damaged or holds a value that belongs to no ROI.
    """
    label_map = read_image(path)
    _check_values(path, sitk.GetArrayViewFromImage(label_map), labels, ignored_labels)
    return label_map


def voxels_with(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """bool D H W: where a label map has one of the values."""
    return reduce(np.logical_or, (label_map == value for value in values))


def read_on_grid(path: Path, image: sitk.Image, image_path: Path) -> np.ndarray:
    """The voxels (D H W) of a label file; raises UserError if it is not on the image's grid."""
    label = read_image(path)
    if wrong := grid_difference(label, image):
        raise UserError(str(path), f"is not on the grid of {image_path.name}: {wrong}", "mend it or skip the case")
    return sitk.GetArrayFromImage(label)


def _check_values(path: Path, label_map: np.ndarray, labels: Labels, ignored_labels: tuple[int, ...]) -> None:
    if wrong := label_map_fault(label_map, labels, ignored_labels):
        raise UserError(str(path), wrong, "add the values to the data set's `labels` or `ignored_labels`")


def label_map_fault(label_map: np.ndarray, labels: Labels, ignored_labels: tuple[int, ...]) -> str:
    """Which values of a label map no ROI claims, in words; empty if there are none."""
    known = {value for values in labels.values() for value in values} | {0, *ignored_labels}
    unclaimed = sorted(label_values(label_map) - known)
    return (
        f"holds label values that no ROI claims: {', '.join(f'{value:g}' for value in unclaimed[:5])}"
        if unclaimed
        else ""
    )


def label_values(label_map: np.ndarray) -> set[float]:
    """The values that occur in a label map."""
    if label_map.dtype.kind == "f":
        return set(np.unique(label_map).tolist())
    low, high = int(label_map.min()), int(label_map.max())
    occurs = np.zeros(high - low + 1, bool)
    for plane in label_map:
        occurs[plane.astype(np.int64) - low] = True
    return set((np.flatnonzero(occurs) + low).tolist())


def _nnunet_ending(root: Path) -> str:
    description = root / "dataset.json"
    if not description.is_file():
        return ".nii.gz"
    try:
        return str(read_json(description).get("file_ending", ".nii.gz"))
    except (ValueError, AttributeError) as error:
        raise UserError(str(description), f"is no JSON object ({error})", "mend it as nnU-Net describes it") from error
