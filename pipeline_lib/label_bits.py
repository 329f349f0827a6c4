"""Label bits: overlapping ROIs in one array.

In memory, ROI k is bit k % 8 of byte plane k // 8 (planes P D H W, P = ⌈K / 8⌉); a volume holds codes of them
(volumes.label_codes). In a NIfTI file it is bit k of one integer per voxel, of the smallest unsigned type with K bits.
The names of the ROIs, in order, are in `rois.json` beside the file: no field of a NIfTI header is long enough for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .errors import UserError
from .files import read_json, write_json
from .geometry import Geometry
from .nifti import Placement, read_nifti
from .nifti_writer import write_nifti

NAMES_FILE = "rois.json"
_WIDTHS = (8, 16, 32, 64)
MOST_ROIS = _WIDTHS[-1]
"""As many bits as one integer has."""
_BITS = 8
"""Bits of a byte plane."""

Index = TypeVar("Index", int, Any)
"""A ROI's number, or an array or tensor of such numbers."""


def plane_count(rois: int) -> int:
    """P, the number of byte planes that hold `rois` bits."""
    return -(-rois // _BITS)


def plane_and_bit(roi: Index) -> tuple[Index, Index]:
    """The byte plane of a ROI, and its bit there."""
    return roi // _BITS, roi % _BITS


def rois_of_planes(rois: int) -> Iterator[range]:
    """The numbers of the ROIs of each byte plane in turn."""
    for first in range(0, rois, _BITS):
        yield range(first, min(first + _BITS, rois))


def pack(masks: np.ndarray) -> np.ndarray:
    """bool K D H W → uint8 planes P D H W."""
    return np.packbits(masks.astype(bool), axis=0, bitorder="little")


def unpack(planes: np.ndarray, rois: int, axis: int) -> np.ndarray:
    """uint8 with planes along `axis` → uint8 (0, 1) with `rois` along it."""
    return np.unpackbits(planes, axis=axis, count=rois, bitorder="little")


def plane_mask(planes: np.ndarray, roi: int) -> np.ndarray:
    """uint8 planes P D H W → bool D H W of one ROI."""
    plane, bit = plane_and_bit(roi)
    return roi_mask(planes[plane], bit)


def bits_from_planes(planes: np.ndarray, rois: int) -> np.ndarray:
    """uint8 planes … P → ROI bits (the smallest unsigned type for `rois`), one integer for each row of planes."""
    dtype = bits_dtype(rois)
    bits = np.zeros(planes.shape[:-1], dtype)
    for plane in range(planes.shape[-1]):
        bits |= planes[..., plane].astype(dtype) << dtype.type(_BITS * plane)
    return bits


def add_mask(bits: np.ndarray, bit: int, mask: np.ndarray, box: Any = ...) -> None:
    """Set a bit of `bits` (unsigned; a byte plane or ROI bits, D H W) where `mask` (bool) is, in place.

    The mask covers the box of `bits` that the slices `box` cut out; all of it by default.
    """
    bits[box] |= mask.astype(bits.dtype) << bits.dtype.type(bit)


def bits_dtype(rois: int) -> np.dtype:
    """Smallest unsigned integer type with a bit for each ROI; raises ValueError for more than 64."""
    for width in _WIDTHS:
        if rois <= width:
            return np.dtype(f"uint{width}")
    raise ValueError(f"{rois} ROIs do not fit into one integer of 64 bits")


def roi_mask(bits: np.ndarray, roi: int) -> np.ndarray:
    """ROI bits (unsigned, D H W) → bool D H W of one ROI."""
    return (bits >> bits.dtype.type(roi)) & bits.dtype.type(1) == 1


def write_roi_bits(
    path: Path, bits: np.ndarray, grid: Geometry, rois: tuple[str, ...], placement: Placement | None = None
) -> None:
    """Write ROI bits (unsigned, D H W) on `grid` as NIfTI, and the ROIs' names into `rois.json` beside it.

    With `placement` the header says where the voxels lie in its words: those of the CT's own header.
    """
    names = path.parent / NAMES_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if not names.exists() or tuple(read_json(names)) != rois:
        write_json(names, list(rois))
    write_nifti(path, np.ascontiguousarray(bits, bits_dtype(len(rois))), grid, placement)


def read_roi_bits(path: Path) -> tuple[np.ndarray, Geometry]:
    """ROI bits (unsigned, D H W) of a NIfTI file and their grid; raises UserError if it cannot be read."""
    try:
        image = read_nifti(path)
    except OSError as error:
        raise UserError(str(path), "cannot be read", "check the path") from error
    except UserError as error:
        raise UserError(
            str(path),
            error.wrong,
            f"delete it and run `snakemake {path.parent} --cores all --forcerun predict` with your config",
        ) from error
    if image.voxels.dtype.kind != "u":
        wrong = f"holds {image.voxels.dtype} instead of ROI bits"
        raise UserError(str(path), wrong, "give a file that this pipeline wrote")
    return image.voxels, image.grid


def roi_names(path: Path) -> tuple[str, ...]:
    """Names of the ROIs of a ROI-bits file, in the order of its bits; raises UserError where they are missing."""
    names = path.parent / NAMES_FILE
    if not names.exists():
        raise UserError(str(names), "is missing", "it has the names of the ROI bits: restore it or remake the folder")
    return tuple(read_json(names))
