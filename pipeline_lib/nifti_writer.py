"""NIfTI-1 files as other programs expect them, in the place of the image that they belong to."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .files import atomic_write
from .geometry import Geometry
from .nifti import Placement, read_placement


def write_nifti(
    path: Path, voxels: np.ndarray, grid: Geometry, placement: Placement | None = None, slope: float | None = None
) -> None:
    """Write `voxels` (D H W on `grid`) as a .nii.gz, whole or not at all.

    With `placement` the header says where the voxels lie in its words, those of the CT's own header; with `slope`, that
    a voxel stands for `slope` times its number.
    """
    with atomic_write(path) as partial:
        sitk.WriteImage(grid.image(voxels), str(partial), useCompression=True, imageIO="NiftiImageIO")
        if placement is not None:
            write_placement(partial, placement)
        if slope is not None:
            _edit(partial, lambda content: struct.pack_into("<2f", content, 112, slope, 0.0))


def write_placement(path: Path, placement: Placement) -> None:
    """Make a .nii.gz say that its voxels lie where `placement` says; leaves a file that says so already as it is."""
    if read_placement(path) == placement:
        return

    def place(content: bytearray) -> None:
        struct.pack_into("<4f", content, 76, *placement.pixdim)
        struct.pack_into("<B", content, 123, placement.units)
        struct.pack_into("<2h", content, 252, placement.qform_code, placement.sform_code)
        struct.pack_into("<6f", content, 256, *placement.quaternion)
        struct.pack_into("<12f", content, 280, *placement.sform)

    _edit(path, place)


def _edit(path: Path, change: Callable[[bytearray], None]) -> None:
    """Write a .nii.gz again, with `change` made to its content."""
    with gzip.open(path, "rb") as file:
        content = bytearray(file.read())
    change(content)
    with atomic_write(path) as partial, partial.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        packed.write(content)
