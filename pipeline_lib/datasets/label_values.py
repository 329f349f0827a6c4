"""The values of label files: masks of 0 and 1, label maps of integers, and what must not be in them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from pathlib import Path

import numpy as np

from ..errors import UserError

ADD_VALUES = "add the values to the data set's `labels`, `ignored_labels` or `unknown_labels`"
_ROUNDING = 1e-3
"""Label values this far from a whole number are taken for it: what scaling and resaving make of them."""
_FEW_VALUES = 1 << 16


def voxels_with(label_map: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """bool D H W: where a label map has one of the values."""
    return reduce(np.logical_or, (label_map == value for value in values))


def mask_voxels(path: Path, values: np.ndarray) -> np.ndarray:
    """bool: where a mask of 0 and 1, or of 0 and 255, soft ones included, reaches one half.

    Raises UserError if its highest value is neither, so that one half means nothing.
    """
    highest = float(values.max())
    full = next((value for value in (0.0, 1.0, 255.0) if abs(highest - value) <= _ROUNDING), None)
    if full is None or (full == 0 and highest > 0):
        wrong = f"is not a mask: its highest value is {highest:g} instead of 1 or 255"
        raise UserError(str(path), wrong, "write it as 0 and 1")
    return values >= full / 2 if full else np.zeros(values.shape, bool)


def whole_labels(path: Path, label_map: np.ndarray) -> np.ndarray:
    """A label map as integers; floating-point values within rounding of a whole number are taken for it.

    Raises UserError for other values.
    """
    if label_map.dtype.kind != "f":
        return label_map
    whole = np.empty(label_map.shape, np.int32)
    odd: set[float] = set()
    for plane, values in zip(whole, label_map, strict=True):
        rounded = np.rint(values)
        taken = (np.abs(values - rounded) <= _ROUNDING) & (np.abs(rounded) < np.iinfo(np.int32).max)
        odd.update(values[~taken][:1000].tolist())
        plane[...] = np.where(taken, rounded, 0)
    if odd:
        shown = ", ".join(f"{value:.6g}" for value in sorted(odd)[:5])
        raise UserError(
            str(path),
            f"holds label values that are not whole numbers: {shown}{', …' if len(odd) > 5 else ''}",
            "round it, or make it again with nearest-neighbour interpolation",
        )
    return whole


def check_values(path: Path, label_map: np.ndarray, known: Iterable[int]) -> set[int]:
    """The values that occur in a label map; raises UserError if one is neither 0 nor `known`."""
    found = label_values(label_map)
    if unclaimed := sorted(found - {0, *known}):
        shown = ", ".join(str(value) for value in unclaimed[:5]) + (", …" if len(unclaimed) > 5 else "")
        raise UserError(str(path), f"holds label values that no ROI claims: {shown}", ADD_VALUES)
    return found


def label_values(label_map: np.ndarray) -> set[int]:
    """The values that occur in a label map of integers."""
    low, high = int(label_map.min()), int(label_map.max())
    if high - low >= _FEW_VALUES:
        return set(np.unique(label_map).tolist())
    occurs = np.zeros(high - low + 1, bool)
    for plane in label_map:
        # Unsigned values may be too large for int64, and differences of signed ones for their own type.
        offset = plane - plane.dtype.type(low) if plane.dtype.kind == "u" else plane.astype(np.int64) - low
        occurs[offset.astype(np.intp)] = True
    return {low + int(index) for index in np.flatnonzero(occurs)}
