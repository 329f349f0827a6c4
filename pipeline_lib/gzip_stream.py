"""The content of a gzip file piece by piece, compared with its checksums and lengths."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError

AGAIN = "fetch or copy the file again, or list the case under `skip:`"

_GZIP = 31  # zlib's code for a gzip stream with its checksum


def gunzipped(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The content of gzip members one after another; raises UserError for damage, or anything but zeros at the end."""
    stream = zlib.decompressobj(wbits=_GZIP)
    begun = False
    try:
        for piece in pieces:
            if stream.eof:  # another member, or padding
                if not piece.strip(b"\0"):
                    continue
                stream = zlib.decompressobj(wbits=_GZIP)
            yield stream.decompress(piece)
            begun = True
            while stream.eof and (more := stream.unused_data.lstrip(b"\0")):
                stream = zlib.decompressobj(wbits=_GZIP)
                yield stream.decompress(more)
    except zlib.error as error:
        after = " after the end of its gzip stream" if begun and "header" in str(error) else ""
        raise UserError(str(path), f"is damaged{after} ({error})", AGAIN) from error
    if not stream.eof:
        raise UserError(str(path), "is cut off: the gzip stream has no end", AGAIN)
