"""Reading one image file of somebody else's, with every fault of it said in one line.

ITK reads a truncated or damaged .nii.gz without complaint (the missing voxels become 0) and replaces a spacing of zero
by 1 mm, so both are looked for here before ITK sees the file.
"""

from __future__ import annotations

import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import UserError

AGAIN = "fetch or copy the file again, or list the case under `skip:`"
# A label's corners may lie this far from its image's, in voxels: what rounding in published headers amounts to.
_SAME_GRID_WITHIN_VOXELS = 0.25
_HEADER_BYTES = 352
_PIECE_BYTES = 1 << 16
_NAMES_OF_TYPE = {".nii": "NiftiImageIO", ".gz": "NiftiImageIO", ".mha": "MetaImageIO", ".nrrd": "NrrdImageIO"}


def read_image(path: Path) -> sitk.Image:
    """The 3-D image in `path`; raises UserError if it is missing, cut off, damaged or no 3-D image."""
    if not path.is_file():
        raise UserError(str(path), "is missing", "acquire the data set again, or list the case under `skip:`")
    if path.name.endswith((".nii", ".nii.gz")):
        _check_nifti(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_NAMES_OF_TYPE.get(path.suffix, ""))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        if "orthonormal" in str(error):
            raise UserError(str(path), "has sheared axes", "resample it onto a rectangular grid") from error
        reason = str(error).strip().splitlines()[-1]
        raise UserError(str(path), f"cannot be read ({reason})", AGAIN) from error
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        sides = "×".join(str(side) for side in image.GetSize())
        raise UserError(str(path), f"is not one 3-D image ({sides})", "give one volume per case")
    return image


def grid_difference(one: sitk.Image, other: sitk.Image) -> str:
    """In what the grids of two images differ beyond rounding; empty if they are the same."""
    if one.GetSize() != other.GetSize():
        sizes = ["×".join(str(side) for side in image.GetSize()) for image in (one, other)]
        return f"{sizes[0]} voxels against {sizes[1]}"
    shift = float(np.abs(_corners_mm(one) - _corners_mm(other)).max())
    if shift > _SAME_GRID_WITHIN_VOXELS * min(other.GetSpacing()):
        return f"corners lie up to {shift:.3g} mm apart"
    return ""


def _corners_mm(image: sitk.Image) -> np.ndarray:
    ends = [(0, side - 1) for side in image.GetSize()]
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in product(*ends)])


def _check_nifti(path: Path) -> None:
    header, length = _unpacked_header(path) if path.suffix == ".gz" else _plain_header(path)
    if len(header) < _HEADER_BYTES - 4:
        raise UserError(str(path), "is too short for a NIfTI file", AGAIN)
    order = "<" if struct.unpack_from("<i", header, 0)[0] == 348 else ">"
    if struct.unpack_from(f"{order}i", header, 0)[0] != 348:
        raise UserError(str(path), "is no NIfTI-1 file", AGAIN)
    count, *sides = struct.unpack_from(f"{order}8h", header, 40)
    bits = struct.unpack_from(f"{order}h", header, 72)[0]
    first = struct.unpack_from(f"{order}f", header, 108)[0]
    expected = first + int(np.prod(sides[:count], dtype=np.int64)) * bits // 8
    if length < expected:
        raise UserError(str(path), f"is cut off ({length:,} of {expected:,.0f} bytes)", AGAIN)
    spacing = struct.unpack_from(f"{order}3f", header, 80)
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        shown = "×".join(f"{side:g}" for side in spacing)
        raise UserError(str(path), f"has a spacing of {shown} mm", "mend its header or list the case under `skip:`")


def _plain_header(path: Path) -> tuple[bytes, int]:
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES), path.stat().st_size


def _unpacked_header(path: Path) -> tuple[bytes, int]:
    """The first bytes of a gzip file and its length unpacked, after checking all of it against its checksum."""
    header, length = b"", 0
    stream = zlib.decompressobj(wbits=31)
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                while piece:
                    unpacked = stream.decompress(piece)
                    length += len(unpacked)
                    header += unpacked[: _HEADER_BYTES - len(header)]
                    piece = stream.unused_data
                    if piece.strip(b"\0"):
                        stream = zlib.decompressobj(wbits=31)
                    elif stream.eof:
                        piece = b""
    except zlib.error as error:
        raise UserError(str(path), f"is damaged ({error})", AGAIN) from error
    if not stream.eof:
        raise UserError(str(path), "is cut off: the gzip stream has no end", AGAIN)
    return header, length
