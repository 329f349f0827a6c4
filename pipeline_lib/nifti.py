"""NIfTI-1 files, read whole and without trust: every fault of one is said in one line.

ITK takes a truncated or damaged .nii.gz without complaint, makes 0 of NaN and 1 mm of a spacing of zero, and may go by
the qform of a file whose sform says otherwise. Here the sform counts where there is one, then the qform, as in nibabel,
FSL and SPM; where neither is set, the first voxel lies at zero and the axes along LPS. The numbers of sound files are
ITK's to the last digit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from .errors import UserError
from .geometry import ALIGNED_WITHIN_VOXELS, Geometry
from .gzip_stream import AGAIN, gunzipped

FIX = "fix it or list the case under `skip:`"
NOT_FINITE = "holds NaN or infinite voxels"

_HEADER_BYTES = 352
_PIECE_BYTES = 1 << 16
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_TYPES = {
    1: "single bits",
    32: "complex numbers",
    128: "RGB colours",
    1536: "128-bit floats",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "RGBA colours",
}
_MILLIMETRES = {1: 1000.0, 3: 1e-3}  # of the units metre and micrometre; all others are taken as mm
_SAME_SPACING = 0.01  # pixdim and the length of the sform's columns may differ by this share
_LEAST_MM, _MOST_MM = 1e-3, 1e6  # between voxels, and to the scanner's centre: beyond lies a damaged header
_NO_ROTATION = -1e-3  # the square of a quaternion's first part below which it is no rounded half turn
_HALF_TURN = 1e-7  # the square of a quaternion's first part below which NIfTI's own library takes it for zero
_TO_LPS = np.diag([-1.0, -1.0, 1.0])


class Placement(BaseModel):
    """A NIfTI header's own words on where its voxels lie, for writing another file that says exactly the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    qform_code: int
    sform_code: int
    units: int
    pixdim: tuple[float, float, float, float]
    quaternion: tuple[float, float, float, float, float, float]
    sform: tuple[float, ...]

    @property
    def _millimetres(self) -> float:
        return _MILLIMETRES.get(self.units & 7, 1.0)

    @property
    def spacing_mm(self) -> np.ndarray:
        return np.array(self.pixdim[1:]) * self._millimetres

    def sform_lps(self) -> np.ndarray:
        """3×4: voxel axes (columns, mm) and origin (mm) of the sform."""
        return _TO_LPS @ np.reshape(self.sform, (3, 4)) * self._millimetres

    def qform_lps(self) -> np.ndarray:
        """3×4: voxel axes (columns, mm) and origin (mm) of the qform; NaN where its quaternion is not a rotation."""
        b, c, d, *origin = self.quaternion
        rest = 1 - (b * b + c * c + d * d)
        if not rest > _NO_ROTATION:
            return np.full((3, 4), np.nan)
        a = math.sqrt(max(rest, 0))
        if rest < _HALF_TURN:  # rounding alone
            length = math.sqrt(b * b + c * c + d * d)
            a, b, c, d = 0.0, b / length, c / length, d / length
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        scale = np.array(self.pixdim[1:]) * (1, 1, -1 if self.pixdim[0] < 0 else 1)
        return _TO_LPS @ np.column_stack([rotation * scale, origin]) * self._millimetres


@dataclass(frozen=True)
class Header:
    """What a NIfTI-1 header says: sides (x, y, z), the type of its voxels and where they begin and end in the file."""

    sides: tuple[int, int, int]
    dtype: np.dtype
    begin: int
    end: int
    slope: float
    intercept: float
    placement: Placement


@dataclass(frozen=True)
class Nifti:
    """Voxels (D H W) on their right-angled grid.

    `notes` say what is odd about where they lie. `placement` is the header's own, None where its two placements are
    plain and agree, so that any writer says the same.
    """

    voxels: np.ndarray
    grid: Geometry
    notes: tuple[str, ...]
    placement: Placement | None


def is_nifti(path: Path) -> bool:
    """Whether the file's name is that of a NIfTI file, in upper or lower case."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: Path) -> Nifti:
    """Read a file; raises UserError if it is damaged, cut off, sheared, not one 3-D image or holds NaN."""
    content = _unpacked(path)
    start = b""
    while len(start) < _HEADER_BYTES and (piece := next(content, b"")):
        start += piece
    header = _header(path, start)
    voxels = _voxels(path, header, chain([start], content))
    grid, notes, plain = _grid(path, header)
    return Nifti(voxels, grid, notes, None if plain else header.placement)


def read_placement(path: Path) -> Placement:
    """A file's own words on where its voxels lie; only its header is read."""
    content = _unpacked(path)
    return _header(path, next(content, b"")).placement


def _header(path: Path, start: bytes) -> Header:
    if len(start) < _HEADER_BYTES:
        raise UserError(str(path), "is cut off before the end of its header", AGAIN)
    order = "<" if struct.unpack_from("<i", start, 0)[0] in (348, 540) else ">"
    size = struct.unpack_from(f"{order}i", start, 0)[0]
    if size == 540:
        raise UserError(str(path), "is a NIfTI-2 file", "convert it to NIfTI-1")
    if size != 348 or start[344:347] != b"n+1":
        raise UserError(str(path), "is not a NIfTI-1 file of header and voxels in one", AGAIN)
    count, *sides = struct.unpack_from(f"{order}8h", start, 40)
    datatype = struct.unpack_from(f"{order}h", start, 70)[0]
    if count != 3 and not (3 < count < 8 and max(sides[3:count]) <= 1):
        raise UserError(
            str(path), f"is not one 3-D image ({_product(sides[: max(count, 0)])})", "give one volume per case"
        )
    if datatype not in _TYPES:
        held = _OTHER_TYPES.get(datatype, f"voxels of the unknown type {datatype}")
        raise UserError(str(path), f"holds {held}", "give plain numbers")
    offset, slope, intercept = struct.unpack_from(f"{order}3f", start, 108)
    if min(sides[:3]) < 1 or not math.isfinite(offset):
        raise UserError(str(path), f"has {_product(sides[:3])} voxels from byte {offset:g} on, by its header", AGAIN)
    if slope != 0 and math.isfinite(slope) and not math.isfinite(intercept):
        raise UserError(str(path), f"has scl_slope {slope:g} and scl_inter {intercept:g}", FIX)
    begin = max(int(offset), _HEADER_BYTES)
    placement = Placement(
        units=start[123],
        pixdim=struct.unpack_from(f"{order}4f", start, 76),
        qform_code=struct.unpack_from(f"{order}h", start, 252)[0],
        sform_code=struct.unpack_from(f"{order}h", start, 254)[0],
        quaternion=struct.unpack_from(f"{order}6f", start, 256),
        sform=struct.unpack_from(f"{order}12f", start, 280),
    )
    spacing = placement.pixdim[1:]
    if not all(np.isfinite(spacing)) or min(spacing) <= 0:
        raise UserError(str(path), f"has a spacing of {_product(spacing)} mm", FIX)
    dtype = np.dtype(order + _TYPES[datatype])
    end = begin + math.prod(sides[:3]) * dtype.itemsize
    return Header(tuple(sides[:3]), dtype, begin, end, slope, intercept, placement)


def _voxels(path: Path, header: Header, content: Iterator[bytes]) -> np.ndarray:
    """The voxels D H W, scaled as the header says; the rest of the content is read for its length and checksum."""
    # Grows with what is there: a damaged header may promise more than the machine has memory for.
    held, length, rest = bytearray(), 0, b""
    for piece in content:
        first, last = max(length, header.begin), min(length + len(piece), header.end)
        if first < last:
            held += piece[first - length : last - length]
        rest += piece[max(header.end - length, 0) :].strip(b"\0")[:1]
        length += len(piece)
    if length < header.end:
        raise UserError(str(path), f"is cut off ({length:,} of {header.end:,} bytes)", AGAIN)
    if rest:
        raise UserError(str(path), f"continues after its voxels ({length:,} bytes instead of {header.end:,})", AGAIN)
    voxels = np.frombuffer(held, header.dtype).reshape(header.sides[::-1])
    voxels = voxels.astype(header.dtype.newbyteorder("="), copy=False)
    if voxels.dtype.kind == "f" and not all(np.isfinite(plane).all() for plane in voxels):
        raise UserError(str(path), NOT_FINITE, FIX)
    slope, intercept = header.slope, header.intercept
    if slope == 0 or not math.isfinite(slope) or (slope, intercept) == (1, 0):
        return voxels
    scaled = np.empty(voxels.shape, np.float64 if voxels.dtype.itemsize > 4 else np.float32)
    for plane, raw in zip(scaled, voxels, strict=True):
        plane[...] = raw.astype(np.float64) * slope + intercept
    return scaled


def _grid(path: Path, header: Header) -> tuple[Geometry, tuple[str, ...], bool]:
    """The right-angled grid, notes on it, and whether any writer would place the voxels alike."""
    placement, notes = header.placement, []
    with np.errstate(invalid="ignore", over="ignore"):
        by_sform, by_qform = (_placed(header, affine) for affine in (placement.sform_lps(), placement.qform_lps()))
    if placement.sform_code > 0 and by_sform is None:
        if placement.qform_code <= 0 or by_qform is None:
            raise UserError(str(path), "has an sform that is singular or not finite, and no qform", FIX)
        notes.append("its sform is singular or not finite, so the qform is used")
    if placement.sform_code > 0 and by_sform is not None:
        chosen = by_sform
        lengths = np.linalg.norm(placement.sform_lps()[:, :3], axis=0)
        sides = placement.spacing_mm
        if np.abs(lengths / sides - 1).max() > _SAME_SPACING:
            wrong = f"has voxels of {_product(lengths)} mm by its sform and {_product(sides)} mm by pixdim"
            raise UserError(str(path), wrong, "correct the header, or list the case under `skip:`")
        if placement.qform_code > 0 and by_qform is not None:
            apart = np.linalg.norm(by_sform.corners_mm() - by_qform.corners_mm(), axis=1).max()
            if apart > ALIGNED_WITHIN_VOXELS * min(chosen.spacing_mm):
                notes.append(f"its sform and qform lie up to {apart:.3g} mm apart; the sform is used")
    elif placement.qform_code > 0:
        if by_qform is None:
            raise UserError(str(path), "has a qform that is not a rotation or not finite, and no sform", FIX)
        chosen = by_qform
    else:
        notes.append("does not say where it lies (qform_code and sform_code are 0); its axes are taken as LPS")
        spacing = tuple(float(side) for side in placement.spacing_mm)
        chosen = Geometry(size=header.sides, spacing_mm=spacing, origin_mm=(0, 0, 0))
    right_angled, more = checked_right_angles(path, chosen)
    plain = not notes and not more and (placement.qform_code, placement.sform_code) == (1, 1)
    return right_angled, (*notes, *more), plain and placement.units & 7 in (0, 2)


def _placed(header: Header, affine: np.ndarray) -> Geometry | None:
    """The grid of an affine (3×4, LPS) with the header's spacing; None if it is singular or not finite."""
    lengths = np.linalg.norm(affine[:, :3], axis=0)
    if not np.isfinite(affine).all() or min(lengths) == 0 or abs(np.linalg.det(affine[:, :3] / lengths)) < 1e-3:
        return None
    return Geometry(
        size=header.sides,
        spacing_mm=tuple(float(side) for side in header.placement.spacing_mm),
        origin_mm=tuple(float(value) for value in affine[:, 3]),
        direction=tuple(float(value) for value in (affine[:, :3] / lengths).ravel()),
    )


def checked_right_angles(path: Path, grid: Geometry) -> tuple[Geometry, tuple[str, ...]]:
    """The nearest right-angled grid, and a note if it is another.

    Raises UserError if that is too far away, or if no scanner has such a grid.
    """
    if min(grid.spacing_mm) < _LEAST_MM:
        raise UserError(str(path), f"has a spacing of {_product(grid.spacing_mm)} mm", FIX)
    farthest = np.abs(grid.corners_mm()).max() if np.isfinite(grid.direction).all() else np.nan
    if not farthest <= _MOST_MM:
        raise UserError(str(path), f"has a header that puts voxels {farthest:.3g} mm from the scanner's centre", FIX)
    nearest, moved = grid.right_angled()
    if moved > ALIGNED_WITHIN_VOXELS:
        wrong = f"has sheared axes (up to {moved:.2g} voxels from a right-angled grid), as with a tilted CT gantry"
        raise UserError(str(path), wrong, "resample it and its labels onto a right-angled grid")
    if nearest is grid:
        return grid, ()
    return nearest, (f"its axes are not quite at right angles; read on the nearest such grid, {moved:.1g} voxels off",)


def _unpacked(path: Path) -> Iterator[bytes]:
    """The file's content piece by piece; that of a .gz is compared with its checksum and length."""
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
        yield from gunzipped(path, pieces) if path.suffix.lower() == ".gz" else pieces


def _product(sides: np.ndarray | Sequence[float]) -> str:
    return "×".join(f"{side:g}" for side in sides)
