"""What is measured of a predicted ROI: volume, HU, extent, and whether the image cuts it off."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..files import atomic_write
from ..geometry import Geometry
from ..volumes.resampling import Box

_SIDES = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))
"""Lower and higher end of each axis of a canonical array (D H W)."""
_SHARED_CORNERS = np.ones((3, 3, 3))
_UNITS = {"volume_ml": 3, "mean_hu": 1, "std_hu": 1, "extent_mm": 1, "certainty": 3, "expected_dice": 3, "agreement": 3}
"""Rounded columns and their digits after the point."""


@dataclass(frozen=True)
class RoiStatistics:
    """Measurements of one ROI; those of an empty one are None.

    `std_hu` is the standard deviation over the ROI's voxels. `extent_mm` is the box around it: left to right, front to
    back, bottom to top, along the image's own axes. `touches_border` names the sides of the image at which it ends,
    and may go on beyond. `parts` are connected by faces, edges or corners. The last four are those of
    `prediction.confidence.Confidence`.
    """

    roi: str
    volume_ml: float
    mean_hu: float | None
    std_hu: float | None
    extent_mm: tuple[float, float, float] | None
    touches_border: tuple[str, ...]
    parts: int
    certainty: float | None = None
    expected_dice: float | None = None
    look_at: bool | None = None
    agreement: float | None = None


def measured(roi: str, box: Box, mask: np.ndarray, hu: np.ndarray, grid: Geometry) -> RoiStatistics:
    """Measure `mask` (bool, in a box of the CT) in `hu` (D H W); both are seen by `to_canonical` from `grid`."""
    found = ndimage.find_objects(mask.view(np.int8)) if mask.size else []
    if not found:
        return RoiStatistics(roi, 0.0, None, None, None, (), 0)
    tight = tuple(slice(b.start + f.start, b.start + f.stop) for b, f in zip(_bounded(box, hu), found[0], strict=True))
    inside = mask[found[0]]
    values = hu[tight][inside]
    spacing = [grid.spacing_mm[axis] for axis in grid.voxel_axes()]
    return RoiStatistics(
        roi=roi,
        volume_ml=float(np.count_nonzero(inside) * np.prod(spacing) / 1000),
        mean_hu=float(values.mean(dtype=np.float64)),
        std_hu=float(values.std(dtype=np.float64)),
        extent_mm=tuple(
            (side.stop - side.start) * length for side, length in zip(reversed(tight), spacing, strict=True)
        ),
        touches_border=tuple(
            name
            for side, length, names in zip(tight, hu.shape, _SIDES, strict=True)
            for name, touches in zip(names, (side.start == 0, side.stop == length), strict=True)
            if touches
        ),
        parts=int(ndimage.label(inside, _SHARED_CORNERS)[1]),
    )


def as_json(rows: Iterable[RoiStatistics]) -> dict[str, dict[str, Any]]:
    """ROI → its measurements, rounded."""
    content = {}
    for row in rows:
        content[row.roi] = {name: _rounded(name, value) for name, value in asdict(row).items() if name != "roi"}
    return content


def write_csv(path: Path, cases: Iterable[tuple[str, Sequence[RoiStatistics]]]) -> None:
    """A row per case and ROI; extents in a column per direction, sides separated by spaces, empty cells for None."""
    names = [field.name for field in fields(RoiStatistics)]
    place = names.index("extent_mm")
    header = ["case", *names[:place], *(f"extent_{axis}_mm" for axis in "xyz"), *names[place + 1 :]]
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for case, rows in cases:
            for row in rows:
                cells: list[Any] = [case]
                for name, value in asdict(row).items():
                    rounded = _rounded(name, value)
                    if name == "extent_mm":
                        cells += rounded or ("", "", "")
                    elif name == "touches_border":
                        cells.append(" ".join(rounded))
                    else:
                        cells.append("" if rounded is None else rounded)
                writer.writerow(cells)


def _rounded(name: str, value: Any) -> Any:
    if name not in _UNITS or value is None:
        return list(value) if isinstance(value, tuple) else value
    if isinstance(value, tuple):
        return [round(part, _UNITS[name]) for part in value]
    return round(value, _UNITS[name])


def _bounded(box: Box, array: np.ndarray) -> list[slice]:
    """The box with numbers in place of open ends."""
    return [slice(*side.indices(length)[:2]) for side, length in zip(box, array.shape, strict=True)]
