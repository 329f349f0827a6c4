"""One case of a data set, read as it lies on disk; where that is, its layout says (config.layouts).

Nothing here depends on the order of voxel axes: where a voxel lies follows from the image's direction matrix alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..config.layouts import PUBLISHED, Layout, LayoutName, published
from ..errors import UserError
from ..geometry import Geometry
from ..nifti import Placement
from .descriptions import file_ending
from .images import read_image, read_image_with_notes

Labels = Mapping[str, tuple[int, ...]]
"""ROI → label values that make it."""

ADD_VALUES = "add the values to the data set's `labels` or `ignored_labels`"
_ROUNDING = 1e-3
"""Label values this far from a whole number are taken for it: what scaling and resaving make of them."""
_FEW_VALUES = 1 << 16


@dataclass(frozen=True)
class CaseFiles:
    """Where a case's image and labels lie: one label map, or one mask for each target."""

    image: Path
    label_map: Path | None
    masks: Mapping[str, Path]


@dataclass(frozen=True)
class RawCase:
    """A case as published. `labelled` are the targets that it labels, in the order of the targets.

    `notes` and `placement` are those of the image (images.ReadImage).
    """

    files: CaseFiles
    image: sitk.Image
    labelled: tuple[str, ...]
    _labels: Labels
    _label_map: np.ndarray | None
    notes: tuple[str, ...] = ()
    placement: Placement | None = None

    def mask(self, target: str) -> np.ndarray:
        """bool D H W of a labelled target on the image's grid, read when asked for.

        Raises UserError if its file is faulty or lies on another grid than the image.
        """
        if self._label_map is None:
            return read_mask_on_grid(self.files.masks[target], self.image, self.files.image)
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


def case_files(layout: LayoutName | Layout, root: Path, case: str, targets: tuple[str, ...]) -> CaseFiles:
    """Where the files of `case` should be; nothing is read but nnU-Net's dataset.json."""
    files = published(layout).files
    ending = file_ending(root) if files.needs_ending else ""

    def path(template: str, structure: str = "") -> Path:
        return root / template.format(case=case, ending=ending, structure=structure)

    image = path(files.image)
    if files.has_masks:
        return CaseFiles(image, None, {target: path(files.labels, target) for target in targets})
    return CaseFiles(image, path(files.labels), {})


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
    layout: LayoutName | Layout,
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
    read = read_image_with_notes(files.image)
    label_map, labelled = None, targets
    if files.label_map is not None:
        label_map = whole_labels(files.label_map, read_on_grid(files.label_map, read.image, files.image))
        check_values(files.label_map, label_map, labels, ignored_labels)
        labelled = tuple(target for target in targets if target in labels)
    return RawCase(files, read.image, labelled, labels, label_map, read.notes, read.placement)


def read_label_map(path: Path, labels: Labels, ignored_labels: tuple[int, ...] = ()) -> sitk.Image:
    """A case's label map on its own, for callers that do not need the image.

    Raises UserError naming the file if it is missing, damaged or holds a value that belongs to no ROI.
    """
    image = read_image(path)
    label_map = whole_labels(path, sitk.GetArrayViewFromImage(image))
    check_values(path, label_map, labels, ignored_labels)
    return Geometry.from_image(image).image(label_map)


def voxels_with(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """bool D H W: where a label map has one of the values."""
    return reduce(np.logical_or, (label_map == value for value in values))


def read_on_grid(path: Path, image: sitk.Image, image_path: Path) -> np.ndarray:
    """The voxels (D H W) of a label file; raises UserError if it is not on the image's grid."""
    label = read_image(path)
    if wrong := Geometry.from_image(label).difference(Geometry.from_image(image)):
        wrong = f"is not on the grid of {image_path.name}: {wrong}"
        raise UserError(str(path), wrong, "resample the label onto the image's grid, or list the case under `skip:`")
    return sitk.GetArrayFromImage(label)


def read_mask_on_grid(path: Path, image: sitk.Image, image_path: Path) -> np.ndarray:
    """bool D H W of one structure's mask; raises UserError if it is not a mask on the image's grid."""
    return mask_voxels(path, read_on_grid(path, image, image_path))


def mask_voxels(path: Path, values: np.ndarray) -> np.ndarray:
    """bool: where a mask of 0 and 1, or of 0 and 255, soft ones included, reaches one half.

    Raises UserError if its highest value is neither, so that one half means nothing.
    """
    highest = float(values.max())
    full = next((value for value in (0.0, 1.0, 255.0) if abs(highest - value) <= _ROUNDING), None)
    if full is None or (full == 0 and highest > 0):
        wrong = f"is not a mask: its highest value is {highest:g} instead of 1 or 255"
        raise UserError(str(path), wrong, "write it as 0 and 1")
    return values >= full / 2 if full else np.zeros(values.shape, bool)


def whole_labels(path: Path, label_map: np.ndarray) -> np.ndarray:
    """A label map as integers; floating-point values within rounding of a whole number are taken for it.

    Raises UserError for other values.
    """
    if label_map.dtype.kind != "f":
        return label_map
    whole = np.empty(label_map.shape, np.int32)
    odd: set[float] = set()
    for plane, values in zip(whole, label_map, strict=True):
        rounded = np.rint(values)
        taken = (np.abs(values - rounded) <= _ROUNDING) & (np.abs(rounded) < np.iinfo(np.int32).max)
        odd.update(values[~taken][:1000].tolist())
        plane[...] = np.where(taken, rounded, 0)
    if odd:
        shown = ", ".join(f"{value:.6g}" for value in sorted(odd)[:5])
        raise UserError(
            str(path),
            f"holds label values that are not whole numbers: {shown}{', …' if len(odd) > 5 else ''}",
            "round it, or make it again with nearest-neighbour interpolation",
        )
    return whole


def check_values(path: Path, label_map: np.ndarray, labels: Labels, ignored_labels: tuple[int, ...]) -> set[int]:
    """The values that occur in a label map; raises UserError if there is one that no ROI claims."""
    known = {value for values in labels.values() for value in values} | {0, *ignored_labels}
    found = label_values(label_map)
    if unclaimed := sorted(found - known):
        shown = ", ".join(str(value) for value in unclaimed[:5]) + (", …" if len(unclaimed) > 5 else "")
        raise UserError(str(path), f"holds label values that no ROI claims: {shown}", ADD_VALUES)
    return found


def label_values(label_map: np.ndarray) -> set[int]:
    """The values that occur in a label map of integers."""
    low, high = int(label_map.min()), int(label_map.max())
    if high - low >= _FEW_VALUES:
        return set(np.unique(label_map).tolist())
    occurs = np.zeros(high - low + 1, bool)
    for plane in label_map:
        # Unsigned values may be too large for int64, and differences of signed ones for their own type.
        offset = plane - plane.dtype.type(low) if plane.dtype.kind == "u" else plane.astype(np.int64) - low
        occurs[offset.astype(np.intp)] = True
    return {low + int(index) for index in np.flatnonzero(occurs)}
