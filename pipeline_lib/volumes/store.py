"""Volumes on disk: chunked, compressed, read in part.

A volume is a folder of three files: image.b2nd (int16 HU, D H W), labels.b2nd (uint8 bit planes, P D H W), case.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from ..errors import UserError
from ..files import whole_file
from .bits import plane_count
from .record import CaseRecord, read_record, write_record

IMAGE, LABELS, RECORD = "image.b2nd", "labels.b2nd", "case.json"

Position = tuple[int, int, int]

_BLOCK = (16, 32, 32)
_CHUNK = (64, 128, 128)


def write_volume(folder: Path, image: np.ndarray, planes: Iterable[np.ndarray], record: CaseRecord) -> None:
    """Write image (int16 D H W), label planes (uint8 D H W, one after another) and record into `folder`.

    Raises ValueError if they disagree about the shape or the number of planes.
    """
    write_image(folder / IMAGE, image)
    write_labels(folder / LABELS, planes, record.shape, len(record.targets))
    if image.shape != record.shape:
        raise ValueError(f"image of shape {image.shape}, record of {record.shape}")
    write_record(folder / RECORD, record)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write int16 HU (D H W), whole or not at all."""
    with whole_file(path) as partial:
        blosc2.asarray(image, urlpath=str(partial), **_layout(image.shape, image.dtype))


def write_labels(path: Path, planes: Iterable[np.ndarray], shape: Position, targets: int) -> None:
    """Write the byte planes (uint8 D H W each) of `targets` label bits, whole or not at all."""
    full = (plane_count(targets), *shape)
    with whole_file(path) as partial:
        stored = blosc2.empty(full, np.uint8, urlpath=str(partial), **_layout(full, np.dtype(np.uint8)))
        count = 0
        for count, plane in enumerate(planes, 1):
            stored[count - 1] = plane
        if count != full[0]:
            raise ValueError(f"{count} planes for {targets} targets")


class Volume:
    """A volume that is read in part. Opening it reads case.json; the arrays are opened when first read.

    Can be sent to another process, which opens the files for itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = read_record(folder / RECORD)

    @property
    def shape(self) -> Position:
        """(D, H, W)."""
        return self.record.shape

    def read_image(self, start: Position, shape: Position) -> np.ndarray:
        """int16 D H W of the box from `start` on; beyond the volume it is the window's low end."""
        return _read_box(self._image, start, shape, round(self.record.window_hu[0]))

    def read_labels(self, start: Position, shape: Position) -> np.ndarray:
        """uint8 planes P D H W of the box from `start` on; beyond the volume no bit is set."""
        return _read_box(self._labels, start, shape, 0)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "record": self.record}

    @cached_property
    def _image(self) -> blosc2.NDArray:
        return _opened(self.folder / IMAGE, self.shape)

    @cached_property
    def _labels(self) -> blosc2.NDArray:
        return _opened(self.folder / LABELS, (plane_count(len(self.record.targets)), *self.shape))


def open_volume(folder: Path) -> Volume:
    """The volume in `folder`; raises UserError if there is none."""
    return Volume(folder)


def _opened(path: Path, shape: tuple[int, ...]) -> blosc2.NDArray:
    remedy = "remove it and rerun the stage volumes for this case"
    try:
        array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1})
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(str(path), "is no readable blosc2 array", remedy) from error
    if array.shape != shape:
        raise UserError(str(path), f"has shape {array.shape}, case.json says {shape}", remedy)
    return array


def _read_box(stored: blosc2.NDArray, start: Position, shape: Position, outside: int) -> np.ndarray:
    """Box D H W of the last three axes of `stored`, filled with `outside` beyond them."""
    leading = stored.shape[:-3]
    sides = stored.shape[-3:]
    inner = [(max(low, 0), min(low + length, side)) for low, length, side in zip(start, shape, sides, strict=True)]
    read = tuple(slice(low, high) for low, high in inner)
    if [high - low for low, high in inner] == list(shape):
        return stored[(*(slice(None),) * len(leading), *read)]
    box = np.full((*leading, *shape), outside, stored.dtype)
    if all(low < high for low, high in inner):
        place = tuple(slice(low - begin, high - begin) for (low, high), begin in zip(inner, start, strict=True))
        box[(..., *place)] = stored[(*(slice(None),) * len(leading), *read)]
    return box


def _layout(shape: tuple[int, ...], dtype: np.dtype) -> dict[str, Any]:
    """Chunks and blocks of an array whose last three axes are D H W; each plane has its own."""
    leading = (1,) * (len(shape) - 3)
    chunk = tuple(min(side, length) for side, length in zip(_CHUNK, shape[-3:], strict=True))
    block = tuple(min(side, length) for side, length in zip(_BLOCK, chunk, strict=True))
    return {
        "chunks": (*leading, *chunk),
        "blocks": (*leading, *block),
        "cparams": {
            "codec": blosc2.Codec.LZ4,
            "clevel": 5,
            "filters": [blosc2.Filter.BITSHUFFLE if dtype.itemsize > 1 else blosc2.Filter.NOFILTER],
            "nthreads": 1,
        },
        "mode": "w",
    }
