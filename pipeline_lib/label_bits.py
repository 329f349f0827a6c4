"""Label bits: overlapping ROIs in one array.

In memory, ROI k is bit k % 8 of byte plane k // 8 (planes P D H W, P = ⌈K / 8⌉); a volume holds codes of them
(volumes.label_codes). In a NIfTI file it is bit k of one integer per voxel, of the smallest unsigned type with K bits.
The names of the ROIs, in order, are in `rois.json` beside the file: no field of a NIfTI header is long enough for them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import UserError
from .files import atomic_write, read_json, write_json
from .geometry import Geometry

NAMES_FILE = "rois.json"
_WIDTHS = (8, 16, 32, 64)


def plane_count(rois: int) -> int:
    """P, the number of byte planes that hold `rois` bits."""
    return -(-rois // 8)


def pack(masks: np.ndarray) -> np.ndarray:
    """bool K D H W → uint8 planes P D H W."""
    return np.packbits(masks.astype(bool), axis=0, bitorder="little")


def plane_mask(planes: np.ndarray, roi: int) -> np.ndarray:
    """uint8 planes P D H W → bool D H W of one ROI."""
    return (planes[roi // 8] >> (roi % 8)) & 1 == 1


def bits_dtype(rois: int) -> np.dtype:
    """Smallest unsigned integer type with a bit for each ROI; raises ValueError for more than 64."""
    for width in _WIDTHS:
        if rois <= width:
            return np.dtype(f"uint{width}")
    raise ValueError(f"{rois} ROIs do not fit into one integer of 64 bits")


def roi_mask(bits: np.ndarray, roi: int) -> np.ndarray:
    """ROI bits (unsigned, D H W) → bool D H W of one ROI."""
    return (bits >> bits.dtype.type(roi)) & bits.dtype.type(1) == 1


def write_roi_bits(path: Path, bits: np.ndarray, grid: Geometry, rois: tuple[str, ...]) -> None:
    """Write ROI bits (unsigned, D H W) on `grid` as NIfTI, and the ROIs' names into `rois.json` beside it."""
    image = grid.image(np.ascontiguousarray(bits, bits_dtype(len(rois))))
    names = path.parent / NAMES_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if not names.exists() or tuple(read_json(names)) != rois:
        write_json(names, list(rois))
    with atomic_write(path) as partial:
        sitk.WriteImage(image, str(partial), useCompression=True, imageIO="NiftiImageIO")


def read_roi_bits(path: Path) -> tuple[np.ndarray, Geometry]:
    """ROI bits (unsigned, D H W) of a NIfTI file and their grid; raises UserError if it cannot be read."""
    try:
        image = sitk.ReadImage(str(path), imageIO="NiftiImageIO")
    except RuntimeError as error:
        raise UserError(str(path), "cannot be read as NIfTI", "remove it and rerun the stage that made it") from error
    bits = sitk.GetArrayFromImage(image)
    if bits.dtype.kind != "u":
        raise UserError(str(path), f"holds {bits.dtype} instead of ROI bits", "give a file that this pipeline wrote")
    return bits, Geometry.of(image)


def roi_names(path: Path) -> tuple[str, ...]:
    """Names of the ROIs of a ROI-bits file, in the order of its bits; raises UserError where they are missing."""
    names = path.parent / NAMES_FILE
    if not names.exists():
        raise UserError(str(names), "is missing", "it has the names of the ROI bits: restore it or remake the folder")
    return tuple(read_json(names))
