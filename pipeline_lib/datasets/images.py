"""Reading one image file that somebody else has written, with every fault of it said in one line.

ITK reads damaged files of every format without complaint: missing voxels become 0. So NIfTI files are read without it
(nifti), and those of other formats are gone through before it sees them (containers).
"""

from __future__ import annotations

import re
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
    try:
        return _read(path)
    except OSError as error:
        wrong = f"cannot be read ({error.strerror or error})"
        raise UserError(str(path), wrong, "check the disk and the permissions of the file and its folders") from error


def _read(path: Path) -> ReadImage:
    if path.is_dir():
        raise UserError(str(path), "is a folder", "give the path of an image file")
    if not path.is_file():
        raise UserError(str(path), *_missing(path))
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
        # ITK's text ends with a matrix, or with "Reason: Success".
        said = [line for line in str(error).splitlines() if re.search("[a-z]{3}", line) and "Success" not in line]
        reason = said[-1].strip() if said else "ITK gives no reason"
        raise UserError(str(path), f"cannot be read ({reason})", AGAIN) from error


def _missing(path: Path) -> tuple[str, str]:
    """What is there instead of a file, and the remedy."""
    if path.is_symlink():
        return f"is a link to {path.readlink()}, where no file is", "restore that file, or correct the link"
    if path.exists():
        return "is not a regular file", "give the path of an image file"
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    if other := next((file.name for file in beside if file.name.lower() == path.name.lower()), ""):
        return "is missing", f"rename {other}, which differs in upper and lower case, or correct `layout` or `cases`"
    return "is missing", _remedy_for_missing(path)


def _remedy_for_missing(path: Path) -> str:
    if any(is_deleted(folder) for folder in path.parents):
        return (
            "bring it back with `snakemake --forcerun resources/raw/DATASET/manifest.json` "
            "(`storage.keep_raw_cases: false` deletes raw cases), or list the case under `skip:`"
        )
    return "put it there, correct `layout`, `root` or `cases`, or list the case under `skip:`"
