"""Reading one image file that somebody else has written, with every fault of it said in one line.

ITK reads damaged files of every format without complaint: missing voxels become 0. So NIfTI files are read without it
(nifti), and those of other formats are gone through before it sees them (containers).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..geometry import Geometry
from ..gzip_stream import AGAIN
from ..nifti import FIX, NOT_FINITE, Placement, checked_right_angles, is_nifti, read_nifti
from .containers import check_metaimage, check_nrrd
from .content import HEAD_BYTES, disguise
from .deletion import is_deleted

_READERS = {".mha": ("MetaImageIO", check_metaimage), ".nrrd": ("NrrdImageIO", check_nrrd)}


@dataclass(frozen=True)
class ReadImage:
    """A 3-D image on a right-angled grid, notes on what is odd about that grid, and its NIfTI placement if unusual."""

    image: sitk.Image
    notes: tuple[str, ...] = ()
    placement: Placement | None = None


def read_image(path: Path) -> sitk.Image:
    """The 3-D image in `path`; raises UserError if it is missing, damaged, sheared or not a 3-D image."""
    return read_image_with_notes(path).image


def read_image_with_notes(path: Path) -> ReadImage:
    """The 3-D image in `path` and what to know about it; raises UserError as `read_image` does."""
    if path.is_dir():
        raise UserError(str(path), "is a folder", "give the path of an image file")
    if not path.is_file():
        raise UserError(str(path), "is missing", _remedy_for_missing(path))
    with path.open("rb") as file:
        if wrong := disguise(file.read(HEAD_BYTES), path.name):
            raise UserError(str(path), *wrong)
    if is_nifti(path):
        read = read_nifti(path)
        return ReadImage(read.grid.image(read.voxels), read.notes, read.placement)
    return checked_image(path, _read_with_itk(path))


def checked_image(path: Path, image: sitk.Image) -> ReadImage:
    """`image` as a 3-D image of plain numbers on a right-angled grid, and what to know about it.

    Raises UserError, which names `path`, if it is anything else. The image itself is left as it is.
    """
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3:
        sides = "×".join(str(side) for side in image.GetSize())
        raise UserError(str(path), f"is not one 3-D image ({sides})", "give one volume per case")
    voxels = sitk.GetArrayViewFromImage(image)
    if image.GetNumberOfComponentsPerPixel() != 1 or voxels.dtype.kind == "c":
        wrong = f"holds {image.GetPixelIDTypeAsString()}s ({image.GetNumberOfComponentsPerPixel()} numbers per voxel)"
        raise UserError(str(path), wrong, "give one plain number per voxel")
    if voxels.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in voxels):
        raise UserError(str(path), NOT_FINITE, FIX)
    spacing = image.GetSpacing()
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        raise UserError(str(path), f"has a spacing of {'×'.join(f'{side:g}' for side in spacing)} mm", FIX)
    grid, notes = checked_right_angles(path, Geometry.from_image(image))
    if notes:
        image = sitk.Image(image)
        image.SetOrigin(grid.origin_mm)
        image.SetDirection(grid.direction)
    return ReadImage(image, notes)


def _read_with_itk(path: Path) -> sitk.Image:
    reader_name, check = _READERS.get(path.suffix.lower(), ("", None))
    if check is not None:
        check(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(reader_name)
    try:
        return reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(str(path), f"cannot be read ({reason})", AGAIN) from error


def _remedy_for_missing(path: Path) -> str:
    if any(is_deleted(folder) for folder in path.parents):
        return (
            "bring it back with `snakemake --forcerun resources/raw/DATASET/manifest.json` "
            "(`storage.keep_raw_cases: false` deletes raw cases), or list the case under `skip:`"
        )
    return "put it there, correct `layout`, `root` or `cases`, or list the case under `skip:`"
