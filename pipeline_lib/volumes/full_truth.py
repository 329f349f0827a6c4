"""A case's full truth, every ROI of a phantom, as the labels of a volume; for checks, never for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..label_bits import add_mask, plane_and_bit, read_roi_bits, roi_mask, roi_names, rois_of_planes
from .names import IMAGE, LABELS, RECORD
from .record import CaseRecord
from .resampling import mask_volume
from .store import Volume, write_labels


def link_with_full_truth(volume: Volume, truth: Path, folder: Path) -> Volume:
    """A volume in `folder` with the image of `volume`, which is linked, and the ROI bits of the file `truth` as labels.

    Raises UserError if `truth` has other ROIs than the volume, or another order of them.
    """
    record = volume.record
    names = roi_names(truth)
    if names != record.targets:
        raise UserError(str(truth), f"has the ROIs {', '.join(names)}", f"expected: {', '.join(record.targets)}")
    folder.mkdir(parents=True)
    for name in (IMAGE, RECORD):
        (folder / name).symlink_to((volume.folder / name).resolve())
    write_labels(folder / LABELS, _planes(truth, record), record.shape, len(record.targets))
    return Volume(folder)


def _planes(truth: Path, record: CaseRecord) -> Iterator[np.ndarray]:
    """uint8 D H W on the volume's grid, one after another."""
    bits, original = read_roi_bits(truth)
    for rois in rois_of_planes(len(record.targets)):
        plane = np.zeros(record.shape, np.uint8)
        for roi in rois:
            box, mask = mask_volume(roi_mask(bits, roi), original, record.grid)
            add_mask(plane, plane_and_bit(roi)[1], mask, box)
        yield plane
