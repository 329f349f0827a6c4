"""Volumes on disk: chunked, compressed, read in part.

A volume is a folder of three files: image.b2nd (int16 HU, D H W), labels.b2nd (label codes, D H W), case.json. Both
arrays are blosc2; docs/volumes.md says how chunks and codec were chosen. To read a crop only the arrays are opened:
what lies outside the volume, what the codes stand for, and which chunks hold a label at all, stands in their metadata.

Volumes whose window cuts off what is dark may have a fourth file, below_window.b2nd, for pictures (`below_window`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from ..errors import UserError
from ..files import atomic_write, fingerprint
from ..label_bits import plane_count
from .below_window import below_window, cuts_off, with_below_window
from .label_codes import coded
from .names import IMAGE, LABELS, RECORD, VOLUME_FILES
from .record import CaseRecord, read_record, write_record

BELOW_WINDOW = "below_window.b2nd"
_REMAKE = "run `snakemake volumes --cores all` with your config"
_REMAKE_IT = f"delete it and {_REMAKE}"

Position = tuple[int, int, int]

_IMAGE_CHUNK, _IMAGE_BLOCK = (16, 32, 64), (16, 16, 32)
_LABEL_CHUNK, _LABEL_BLOCK = (16, 64, 128), (16, 32, 128)
_BELOW_CHUNK = (16, 128, 128)
_WORTH_PACKING = 2.5  # times smaller; docs/volumes.md compares it with 2 and 3
_OUTSIDE, _OCCUPIED, _COMBINATIONS = "outside", "occupied", "combinations"
_HAS_UNKNOWN = "has_unknown"


def write_volume(folder: Path, image: np.ndarray, planes: Iterable[np.ndarray], record: CaseRecord) -> None:
    """Write image (int16 D H W), label planes (uint8 D H W, as for `write_labels`) and record into `folder`.

    Raises ValueError if they disagree about the shape or the number of planes.
    """
    if image.shape != record.shape:
        raise ValueError(f"image of shape {image.shape}, record of {record.shape}")
    write_image(folder / IMAGE, image, record.window_hu)
    write_labels(folder / LABELS, planes, record.shape, len(record.targets))
    write_record(folder / RECORD, record)


def write_image(path: Path, image: np.ndarray, window_hu: tuple[float, float]) -> None:
    """Write int16 HU (D H W), whole or not at all."""
    with atomic_write(path) as partial:
        # One byte of an int16 is nearly noise and the other nearly constant: apart they pack and unpack best.
        packing = {"filters": [blosc2.Filter.SHUFFLE], "splitmode": blosc2.SplitMode.ALWAYS_SPLIT}
        stored = blosc2.asarray(image, **_layout(image.shape, _IMAGE_CHUNK, _IMAGE_BLOCK, packing))
        # In memory: replacing chunks in the file takes nearly as long again; `save` copies them as they are.
        _keep_noise_uncompressed(stored)
        stored.schunk.vlmeta[_OUTSIDE] = round(window_hu[0])
        stored.save(str(partial), mode="w")


def write_labels(path: Path, planes: Iterable[np.ndarray], shape: Position, targets: int) -> None:
    """Write the byte planes (uint8 D H W each) of `targets` label bits as codes, whole or not at all.

    Where voxels are unknown, as many planes follow whose bits say so of each target.
    """
    with atomic_write(path) as partial:
        codes, combinations = coded(planes, shape)
        count = combinations.shape[1]
        if count not in (plane_count(targets), 2 * plane_count(targets)):
            raise ValueError(f"{count} planes for {targets} targets")
        layout = _layout(shape, _LABEL_CHUNK, _LABEL_BLOCK, {"filters": [blosc2.Filter.NOFILTER]})
        stored = blosc2.asarray(codes, urlpath=str(partial), mode="w", **layout)
        occupied = [chunk.special != blosc2.SpecialValue.ZERO for chunk in stored.iterchunks_info()]
        stored.schunk.vlmeta[_OCCUPIED] = np.packbits(occupied).tobytes()
        stored.schunk.vlmeta[_COMBINATIONS] = (count, combinations.tobytes())
        if count > plane_count(targets):
            stored.schunk.vlmeta[_HAS_UNKNOWN] = True


def write_below_window(path: Path, hu: np.ndarray, window_hu: tuple[float, float]) -> None:
    """Write what the window cuts off of `hu` (int16 D H W) below it; without such a part, delete the file."""
    if not cuts_off(window_hu[0]):
        path.unlink(missing_ok=True)
        return
    steps = below_window(hu, window_hu[0])
    packing = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "filters": [blosc2.Filter.NOFILTER]}
    layout = _layout(steps.shape, _BELOW_CHUNK, _BELOW_CHUNK, packing)
    with atomic_write(path) as partial:
        blosc2.asarray(steps, urlpath=str(partial), mode="w", **layout)


class Volume:
    """A volume that is read in part; its files are opened when they are first needed.

    Can be sent to another process, which opens the files for itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def record(self) -> CaseRecord:
        return read_record(self.folder / RECORD)

    @property
    def identity(self) -> str:
        """A fingerprint of the image and the record: whether a prediction is one of this volume."""
        return fingerprint(self.folder / RECORD, self.folder / IMAGE)

    @property
    def shape(self) -> Position:
        """(D, H, W)."""
        return self._image.shape

    def read_image(self, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """int16 D H W of the box from `start` on; beyond the volume it is the window's low end."""
        read, place = _overlap(start, shape, self.shape)
        if _size(read) == tuple(shape):
            box = np.empty(tuple(shape), np.int16)
        else:
            box = np.full(tuple(shape), self._outside, np.int16)
        if min(_size(read)) > 0:
            _decode(self._image, read, box[place])
        return box

    @property
    def pictured_hu(self) -> tuple[float, float]:
        """The intensities that `read_picture` tells apart: the window, or all up to its high end."""
        low, high = self.record.window_hu
        return (low if cuts_off(low) and not self._has_below_window else -math.inf), high

    def read_picture(self) -> np.ndarray:
        """int16 HU D H W of the whole volume, with what the window cuts off below it where that was kept."""
        image = self.read_image((0, 0, 0), self.shape)
        if not self._has_below_window:
            return image
        path = self.folder / BELOW_WINDOW
        steps = _opened(path, "delete it: pictures then show the window alone")[...]
        return with_below_window(image, steps, self.record.window_hu[0])

    @property
    def combinations(self) -> np.ndarray:
        """uint8 C P: row c has the bytes of the label planes that code c stands for; row 0 is zero."""
        return self._tables[0]

    @property
    def unknown(self) -> np.ndarray:
        """uint8 C P: row c has a bit for each target that is unknown where code c is; 0 P if nothing is unknown."""
        return self._tables[1]

    def read_codes(self, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """Label codes D H W of the box from `start` on; beyond the volume they are 0."""
        read, (z, y, x) = _overlap(start, shape, self._labels.shape)
        box = np.zeros(tuple(shape), self._labels.dtype)
        if min(_size(read)) <= 0:
            return box
        depth = self._labels.chunks[0]
        touched = tuple(
            slice(side.start // c, -(-side.stop // c)) for side, c in zip(read, self._labels.chunks, strict=True)
        )
        # Most slices hold no label: a data set labels an organ or two.
        labelled = np.flatnonzero(self._occupied[touched].any(axis=(1, 2)))
        if len(labelled):
            first = max(read[0].start, (touched[0].start + int(labelled[0])) * depth)
            last = min(read[0].stop, (touched[0].start + int(labelled[-1]) + 1) * depth)
            shift = z.start - read[0].start
            _decode(self._labels, (slice(first, last), read[1], read[2]), box[first + shift : last + shift, y, x])
        return box

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    @property
    def _has_below_window(self) -> bool:
        return (self.folder / BELOW_WINDOW).is_file()

    @cached_property
    def _image(self) -> blosc2.NDArray:
        return _opened(self.folder / IMAGE)

    @cached_property
    def _outside(self) -> int:
        return int(_note(self._image, _OUTSIDE))

    @cached_property
    def _labels(self) -> blosc2.NDArray:
        return _opened(self.folder / LABELS)

    @cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray]:
        count, content = _note(self._labels, _COMBINATIONS)
        table = np.frombuffer(content, np.uint8).reshape(-1, count)
        if _HAS_UNKNOWN not in self._labels.schunk.vlmeta:
            return table, np.empty((0, count), np.uint8)
        planes = count // 2
        return np.ascontiguousarray(table[:, :planes]), np.ascontiguousarray(table[:, planes:])

    @cached_property
    def _occupied(self) -> np.ndarray:
        """bool D' H' W': the chunks that hold a label."""
        grid = tuple(-(-side // chunk) for side, chunk in zip(self._labels.shape, self._labels.chunks, strict=True))
        packed = np.frombuffer(_note(self._labels, _OCCUPIED), np.uint8)
        return np.unpackbits(packed, count=int(np.prod(grid))).astype(bool).reshape(grid)


def read_box(image: np.ndarray, start: Sequence[int], shape: Sequence[int], outside: int) -> np.ndarray:
    """`Volume.read_image` of an array that is in memory: D H W of the box from `start` on, `outside` beyond it."""
    read, place = _overlap(start, shape, image.shape)
    box = np.full(tuple(shape), outside, image.dtype)
    box[place] = image[read]
    return box


def open_volume(folder: Path) -> Volume:
    """The volume in `folder`; raises UserError if it lacks a file."""
    for name in VOLUME_FILES:
        if not (folder / name).is_file():
            raise UserError(str(folder / name), "is missing", _REMAKE)
    return Volume(folder)


def _opened(path: Path, remedy: str = "") -> blosc2.NDArray:
    try:
        array = blosc2.open(str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(str(path), "is not a readable blosc2 array", remedy or _REMAKE_IT) from error
    if array.ndim != 3:
        raise UserError(str(path), f"has {array.ndim} axes instead of 3", remedy or _REMAKE_IT)
    return array


def _note(array: blosc2.NDArray, key: str) -> Any:
    try:
        return array.schunk.vlmeta[key]
    except KeyError as error:
        raise UserError(str(array.urlpath), f"lacks the note '{key}'", _REMAKE_IT) from error


def _decode(array: blosc2.NDArray, box: Sequence[slice], target: np.ndarray) -> None:
    """Read a box of `array` into `target`; straight into its memory where that is in one piece."""
    if target.flags.c_contiguous:
        array.get_slice_numpy(target, ([side.start for side in box], [side.stop for side in box]))
    else:
        target[...] = array[tuple(box)]


def _overlap(
    start: Sequence[int], shape: Sequence[int], sides: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of a box that lies in the volume, and its place in the box."""
    read = tuple(
        slice(max(low, 0), min(low + length, side)) for low, length, side in zip(start, shape, sides, strict=True)
    )
    return read, tuple(slice(part.start - low, part.stop - low) for part, low in zip(read, start, strict=True))


def _size(box: Sequence[slice]) -> tuple[int, ...]:
    return tuple(side.stop - side.start for side in box)


def _keep_noise_uncompressed(array: blosc2.NDArray) -> None:
    """Keep the chunks that do not pack `_WORTH_PACKING` times smaller as they are: unpacking them takes too long."""
    chunks = array.schunk
    for chunk in array.iterchunks_info():
        if chunk.cratio < _WORTH_PACKING:
            content = chunks.decompress_chunk(chunk.nchunk)
            plain = blosc2.compress2(
                content, clevel=0, typesize=chunks.typesize, blocksize=chunks.blocksize, nthreads=1
            )
            chunks.update_chunk(chunk.nchunk, plain)


def _layout(shape: Position, chunk: Position, block: Position, packing: dict[str, Any]) -> dict[str, Any]:
    chunk = tuple(min(side, length) for side, length in zip(chunk, shape, strict=True))
    return {
        "chunks": chunk,
        "blocks": tuple(min(side, length) for side, length in zip(block, chunk, strict=True)),
        "cparams": {"codec": blosc2.Codec.LZ4HC, "clevel": 9, "nthreads": 1, **packing},
    }
