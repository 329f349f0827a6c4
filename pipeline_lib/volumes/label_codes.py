"""Label codes: one number a voxel for whatever combination of ROIs lies there.

ROIs overlap, so each has a bit (label_bits). But a volume holds few different combinations of them: code c stands for
row c of a table, `combinations` (uint8 C P, the bytes of the label planes); row 0 has no bit set. One array of codes is
read as fast for a hundred ROIs as for one. Where voxels are unknown, further planes have a bit for each
ROI that says so.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_TYPES = tuple(np.dtype(name) for name in ("uint8", "int16", "int32"))
_SLICES = 16
"""Slices that are coded at once, which bounds the memory of it."""


def coded(planes: Iterable[NDArray[np.uint8]], shape: tuple[int, int, int]) -> tuple[np.ndarray, NDArray[np.uint8]]:
    """Byte planes (uint8 D H W each, one after another) as codes (D H W of the smallest type) and `combinations`.

    A row of the table may be of no voxel: what the first planes had in common before a later one told it apart.
    Raises ValueError for a plane of another shape.
    """
    codes = np.zeros(shape, _TYPES[0])
    combinations = np.zeros((1, 0), np.uint8)
    for plane in planes:
        if plane.shape != shape:
            raise ValueError(f"label plane of shape {plane.shape}, volume of {shape}")
        # A combination so far and this plane's byte make a pair; pairs of a zero byte keep their code.
        pairs = np.arange(len(combinations)) * 256
        code_of_pair = np.full(256 * len(combinations), -1)
        code_of_pair[pairs] = np.arange(len(combinations))
        for first in range(0, shape[0], _SLICES):
            slices = slice(first, first + _SLICES)
            labelled = plane[slices] != 0
            found = codes[slices][labelled].astype(np.intp) * 256 + plane[slices][labelled]
            present = np.flatnonzero(np.bincount(found, minlength=len(code_of_pair)))
            new = present[code_of_pair[present] < 0]
            code_of_pair[new] = np.arange(len(pairs), len(pairs) + len(new))
            pairs = np.concatenate([pairs, new])
            codes = codes.astype(_type_of(len(pairs)), copy=False)
            codes[slices][labelled] = code_of_pair[found]
        before, byte = np.divmod(pairs, 256)
        combinations = np.column_stack([combinations[before], byte.astype(np.uint8)])
    return codes, combinations


def _type_of(count: int) -> np.dtype:
    """The smallest type for codes below `count` that PyTorch computes with."""
    return next(dtype for dtype in _TYPES if count <= np.iinfo(dtype).max + 1)
