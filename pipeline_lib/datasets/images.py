"""Reading one image file of somebody else's, with every fault of it said in one line.

ITK reads a truncated or damaged .nii.gz without complaint (the missing voxels become 0), makes 0 of NaN and 1 mm of a
spacing of zero; so all these are looked for here before ITK sees the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import UserError

AGAIN = "fetch or copy the file again, or list the case under `skip:`"
# A label's corners may lie this far from its image's, in voxels: what rounding in published headers amounts to.
_SAME_GRID_WITHIN_VOXELS = 0.25
_NOT_FINITE = "holds NaN or infinite voxels"
_MEND = "mend it or list the case under `skip:`"
_FETCH = (
    "bring it back with `snakemake --forcerun resources/raw/DATASET/manifest.json` (`storage.keep_raw_cases: false` "
    "deletes raw cases), "
    "or list the case under `skip:`"
)
_HEADER_BYTES = 352
_PIECE_BYTES = 1 << 16
_GZIP = 31  # zlib's code for a gzip stream with its checksum
_FLOATING = {16: np.dtype(np.float32), 64: np.dtype(np.float64)}
_NAMES_OF_TYPE = {".nii": "NiftiImageIO", ".gz": "NiftiImageIO", ".mha": "MetaImageIO", ".nrrd": "NrrdImageIO"}


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image or label file of any layout."""
    return path.name.endswith((".nii.gz", ".nii", ".mha", ".nrrd"))


def read_image(path: Path) -> sitk.Image:
    """The 3-D image in `path`; raises UserError if it is missing, damaged or no 3-D image."""
    if not path.is_file():
        raise UserError(str(path), "is missing", _FETCH)
    nifti = path.name.endswith((".nii", ".nii.gz"))
    if nifti:
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
    if not nifti and not np.isfinite(sitk.GetArrayViewFromImage(image)).all():
        raise UserError(str(path), _NOT_FINITE, _MEND)
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


@dataclass(frozen=True)
class _Header:
    """What a NIfTI-1 header says: byte order, spacing (mm), type of its voxels, and where they begin and end."""

    order: str
    spacing_mm: tuple[float, float, float]
    datatype: int
    begin: int
    end: int


def _check_nifti(path: Path) -> None:
    """Go through the whole file once; raise UserError if it is damaged, cut off or holds what is no number."""
    content = _unpacked(path)
    start = b""
    while len(start) < _HEADER_BYTES and (piece := next(content, b"")):
        start += piece
    header = _header(path, start)
    if not all(np.isfinite(header.spacing_mm)) or min(header.spacing_mm) <= 0:
        shown = "×".join(f"{side:g}" for side in header.spacing_mm)
        raise UserError(str(path), f"has a spacing of {shown} mm", _MEND)
    floating = _FLOATING.get(header.datatype)
    length, rest, finite = len(start), start[header.begin :], True
    for piece in chain([b""], content):
        length += len(piece)
        if floating is not None:
            rest += piece
            whole = len(rest) - len(rest) % floating.itemsize
            values = np.frombuffer(rest[:whole], floating.newbyteorder(header.order))
            finite, rest = finite and bool(np.isfinite(values).all()), rest[whole:]
    if length < header.end:
        raise UserError(str(path), f"is cut off ({length:,} of {header.end:,} bytes)", AGAIN)
    if not finite:
        raise UserError(str(path), _NOT_FINITE, _MEND)


def _header(path: Path, start: bytes) -> _Header:
    if len(start) < _HEADER_BYTES:
        raise UserError(str(path), "is cut off before the end of its header", AGAIN)
    order = "<" if struct.unpack_from("<i", start, 0)[0] == 348 else ">"
    if struct.unpack_from(f"{order}i", start, 0)[0] != 348:
        raise UserError(str(path), "is no NIfTI-1 file", AGAIN)
    count, *sides = struct.unpack_from(f"{order}8h", start, 40)
    datatype, bits = struct.unpack_from(f"{order}2h", start, 70)
    begin = max(int(struct.unpack_from(f"{order}f", start, 108)[0]), _HEADER_BYTES)
    end = begin + math.prod(sides[:count]) * bits // 8
    return _Header(order, struct.unpack_from(f"{order}3f", start, 80), datatype, begin, end)


def _unpacked(path: Path) -> Iterator[bytes]:
    """The file's content piece by piece; that of a .gz is held against its checksum and length."""
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
        yield from _gunzipped(path, pieces) if path.suffix == ".gz" else pieces


def _gunzipped(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=_GZIP)
    try:
        for piece in pieces:
            if stream.eof:  # another member, or padding
                if not piece.strip(b"\0"):
                    continue
                stream = zlib.decompressobj(wbits=_GZIP)
            yield stream.decompress(piece)
            while stream.eof and (more := stream.unused_data.lstrip(b"\0")):
                stream = zlib.decompressobj(wbits=_GZIP)
                yield stream.decompress(more)
    except zlib.error as error:
        raise UserError(str(path), f"is damaged ({error})", AGAIN) from error
    if not stream.eof:
        raise UserError(str(path), "is cut off: the gzip stream has no end", AGAIN)
