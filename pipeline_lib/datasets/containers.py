"""Is a MetaImage or NRRD file whole? Goes through its voxels once, as their sizes and checksums say.

Voxels in a file of their own (detached), and encodings that need no check of their length, are left to ITK.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError
from ..gzip_stream import AGAIN, gunzipped

_PIECE_BYTES = 1 << 16
_LONGEST_HEADER = 1 << 20
_METAIMAGE_BYTES = {
    "CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "LONG": 4, "ULONG": 4,
    "LONG_LONG": 8, "ULONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8,
}  # fmt: skip
_METAIMAGE_PLACES = {"Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation", "ElementSpacing"}
_NRRD_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t",
        "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    8: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
        "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip


def check_metaimage(path: Path) -> None:
    """Raise UserError if an .mha is cut off, damaged, or continues after its voxels."""
    with _numbers_of_header(path), path.open("rb") as file:
        fields = {}
        while "ElementDataFile" not in fields:
            key, equals, value = _line(path, file).partition("=")
            if not equals:
                raise UserError(str(path), "is not a MetaImage file", AGAIN)
            fields[key.strip()] = value.strip()
        # ITK reads a number that is none as 0, or says nothing that helps.
        for key in _METAIMAGE_PLACES & fields.keys():
            if not all(math.isfinite(float(number)) for number in fields[key].split()):
                raise ValueError(f"{key} = {fields[key]}")
        if any(float(side) <= 0 for side in fields.get("ElementSpacing", "1").split()):
            raise ValueError(f"ElementSpacing = {fields['ElementSpacing']}")
        kind = fields.get("ElementType", "").upper().removeprefix("MET_").removesuffix("_ARRAY")
        local = fields["ElementDataFile"].upper() == "LOCAL"
        if not local or kind not in _METAIMAGE_BYTES or int(fields.get("HeaderSize", "0")) > 0:
            return
        channels = int(fields.get("ElementNumberOfChannels", "1"))
        voxels = math.prod(int(side) for side in fields.get("DimSize", "0").split())
        pieces = _pieces(file)
        if fields.get("CompressedData", "False").lower() == "true":
            pieces = _inflated(path, pieces)
        _check_length(path, pieces, voxels * channels * _METAIMAGE_BYTES[kind])


def check_nrrd(path: Path) -> None:
    """Raise UserError if a .nrrd is cut off, damaged, or continues after its voxels."""
    with _numbers_of_header(path), path.open("rb") as file:
        if not _line(path, file).startswith("NRRD"):
            raise UserError(str(path), "is not a NRRD file", AGAIN)
        fields = {}
        while line := _line(path, file):
            key, colon, value = line.partition(":")
            if colon and not line.startswith("#"):
                fields[key.strip().lower()] = value.strip().lower()
        size = next((size for size, names in _NRRD_BYTES.items() if fields.get("type") in names), 0)
        skips = any(fields.get(key, "0") != "0" for key in ("byte skip", "byteskip", "line skip", "lineskip"))
        encoding, axes = fields.get("encoding", ""), fields.get("space directions", "")
        # An axis that does not lie in space: ITK places a 3-D image with one as if it had no directions at all.
        if len(fields.get("sizes", "").split()) == 3 and re.search("none|nan", axes):
            raise ValueError(f"space directions: {axes}")
        if not size or skips or "data file" in fields or "datafile" in fields:
            return
        pieces = _pieces(file)
        if encoding in ("gzip", "gz"):
            pieces = gunzipped(path, pieces)
        elif encoding != "raw":
            return
        _check_length(path, pieces, math.prod(int(side) for side in fields.get("sizes", "0").split()) * size)


@contextmanager
def _numbers_of_header(path: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(str(path), f"has a damaged header ({error})", AGAIN) from error


def _line(path: Path, file: BinaryIO) -> str:
    line = file.readline(_LONGEST_HEADER)
    if not line.endswith(b"\n"):
        raise UserError(str(path), "is cut off before the end of its header", AGAIN)
    return line.decode("latin-1").strip()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_PIECE_BYTES), b"")


def _inflated(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of one zlib stream, compared with its checksum."""
    stream, after = zlib.decompressobj(), b""
    try:
        for piece in pieces:
            yield b"" if stream.eof else stream.decompress(piece)
            after += (stream.unused_data if not after else piece).strip(b"\0\r\n") if stream.eof else b""
    except zlib.error as error:
        raise UserError(str(path), f"is damaged ({error})", AGAIN) from error
    if not stream.eof:
        raise UserError(str(path), "is cut off: the compressed voxels have no end", AGAIN)
    if after:
        raise UserError(str(path), "continues after the end of its voxels", AGAIN)


def _check_length(path: Path, pieces: Iterator[bytes], expected: int) -> None:
    length, rest = 0, b""
    for piece in pieces:
        rest += piece[max(expected - length, 0) :].strip(b"\0\r\n")[:1]
        length += len(piece)
    if length < expected:
        raise UserError(str(path), f"is cut off ({length:,} of {expected:,} bytes of voxels)", AGAIN)
    if rest:
        raise UserError(str(path), f"continues after its voxels ({length:,} bytes instead of {expected:,})", AGAIN)
