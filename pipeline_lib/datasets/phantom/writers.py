"""Write phantoms in a data set's layout, so that the readers of the real data sets read them.

Where the files lie and in what order of axes is the layout's to say (config.layouts). As in the published data sets,
MSD and nnU-Net get a `dataset.json`, KiTS19 has slices from the top down and its origin at zero, and TotalSegmentator
has a mask for every structure, empty ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...config.datasets import Dataset
from ...config.layouts import PUBLISHED, PublishedLayout, published
from ...config.structures import structure_names
from ...errors import UserError
from ...files import write_json
from ...label_bits import NAMES_FILE, add_mask, bits_dtype
from ..readers import case_files_of_all_labels
from .case import PhantomCase

Axes = tuple[tuple[int, int, int], tuple[int, int, int]]
"""Order of the voxel axes in terms of (x, y, z), and the sense of each: +1 grows with LPS, −1 against it."""

# How published NIfTI files lie, with the share of each.
_RIGHT_ANTERIOR_SUPERIOR: Axes = ((0, 1, 2), (-1, -1, 1))
_ORIENTATIONS: tuple[tuple[Axes, float], ...] = (
    (((0, 1, 2), (1, -1, 1)), 0.4),
    (_RIGHT_ANTERIOR_SUPERIOR, 0.2),
    (((0, 1, 2), (1, 1, 1)), 0.2),
    (((0, 1, 2), (1, 1, -1)), 0.1),
    (((1, 0, 2), (-1, 1, 1)), 0.05),
    (((2, 0, 1), (1, -1, -1)), 0.05),
)
_SLICE_ROW_COLUMN: Axes = ((2, 1, 0), (-1, 1, 1))


@dataclass(frozen=True)
class Writer:
    """Writes the cases of one data set below `root`, and the truth of all ROIs below `truth_folder`."""

    dataset: Dataset
    root: Path
    truth_folder: Path
    rois: tuple[str, ...]

    def write_case(self, name: str, case: PhantomCase, generator: np.random.Generator) -> None:
        """Write image, labels and truth of one case; `generator` chooses the orientation of its voxel axes."""
        layout = published(self.dataset.layout)
        axes = _axes(layout, generator)

        def placed(array: np.ndarray) -> sitk.Image:
            return _turned(case.image(array), axes, layout.at_origin)

        structures = structure_names("totalsegmentator_v1") if layout.files.has_masks else ()
        files = case_files_of_all_labels(self.dataset, self.root, name, structures)
        if files.label_map is not None:
            _write(files.label_map, placed(label_map(self.dataset, case)))
        for structure, (mask_file,) in files.masks.items():
            _write(mask_file, placed(case.structure_mask(structure).astype(np.uint8)))
        _write(files.image, placed(case.hu))
        _write(self.truth_folder / f"{name}.nii.gz", placed(roi_bits(case, self.rois)))

    def write_description(self) -> None:
        """Write `dataset.json`, where the layout has one, and the names of the truth's bits."""
        if published(self.dataset.layout).description is not None:
            write_json(self.root / "dataset.json", _description(self.dataset))
        write_json(self.truth_folder / NAMES_FILE, list(self.rois))


def check_layout(dataset: Dataset) -> None:
    """Raise UserError for a layout that phantoms are not written in."""
    if not published(dataset.layout).phantoms:
        written = ", ".join(name for name, layout in PUBLISHED.items() if layout.phantoms)
        raise UserError(
            f"data set {dataset.name}: layout",
            f"phantoms are not written as {dataset.layout}",
            f"choose from {written}",
        )


def _description(dataset: Dataset) -> dict[str, object]:
    values = sorted({value for of_roi in dataset.label_values.values() for value in of_roi})
    named = {
        value: "+".join(roi for roi, of_roi in dataset.label_values.items() if value in of_roi) for value in values
    }
    common: dict[str, object] = {
        "name": dataset.name,
        "description": "Phantom torsos, labelled as the published data set is",
        "licence": dataset.licence,
        "numTraining": len(dataset.all_cases),
    }
    if published(dataset.layout).description == "nnunet":
        return common | {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0} | {name: value for value, name in named.items()},
            "file_ending": ".nii.gz",
        }
    return common | {
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": {"0": "background"} | {str(value): name for value, name in named.items()},
        "numTest": 0,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz"} | ({"label": f"./labelsTr/{name}.nii.gz"} if dataset.labels else {})
            for name in dataset.all_cases
        ],
        "test": [],
    }


def label_map(dataset: Dataset, case: PhantomCase) -> np.ndarray:
    """One integer per voxel (uint8, D H W), as the data set's `labels` define them.

    A value that several ROIs share lies where all of them are; the more ROIs share it, the later it is painted.
    """
    masks = {roi: case.roi_mask(roi) for roi in dataset.label_values}
    sharing = {
        value: [roi for roi, of_roi in dataset.label_values.items() if value in of_roi]
        for value in sorted({value for of_roi in dataset.label_values.values() for value in of_roi})
    }
    values = np.zeros(case.hu.shape, np.uint8)
    for value, rois in sorted(sharing.items(), key=lambda item: len(item[1])):
        values[np.logical_and.reduce([masks[roi] for roi in rois])] = value
    return values


def roi_bits(case: PhantomCase, rois: tuple[str, ...]) -> np.ndarray:
    """All ROIs of a case: bit k of each voxel's integer is ROI k (smallest unsigned type that holds them, D H W)."""
    bits = np.zeros(case.hu.shape, bits_dtype(len(rois)))
    for index, roi in enumerate(rois):
        add_mask(bits, index, case.roi_mask(roi))
    return bits


def _axes(layout: PublishedLayout, generator: np.random.Generator) -> Axes:
    """Order and sense of a case's voxel axes; drawn where the layout mixes them."""
    if layout.axes == "slice_row_column":
        return _SLICE_ROW_COLUMN
    if layout.axes == "right_anterior_superior":
        return _RIGHT_ANTERIOR_SUPERIOR
    shares = [share for _, share in _ORIENTATIONS]
    return _ORIENTATIONS[generator.choice(len(shares), p=shares)][0]


def _turned(image: sitk.Image, axes: Axes, at_origin: bool) -> sitk.Image:
    """The image with its voxel axes in another order and sense, each voxel where it was in the patient.

    `at_origin` moves the whole to the origin, as KiTS19 does, which keeps no position.
    """
    order, signs = axes
    turned = sitk.Flip(sitk.PermuteAxes(image, order), [sign < 0 for sign in signs], flipAboutOrigin=False)
    if at_origin:
        turned.SetOrigin((0.0, 0.0, 0.0))
    return turned


def _write(path: Path, image: sitk.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
