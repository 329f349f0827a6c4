"""What is true in one test case: which ROIs it labels, where each of them is, and where that is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..label_bits import add_mask, bits_dtype, roi_mask


@dataclass(frozen=True, eq=False)
class CaseTruth:
    """The truth of one case on the prediction's grid.

    `bits` are ROI bits (unsigned, D H W) of the `labelled` ROIs, in the order of all ROIs; `unknown` are the bits of
    labelled ROIs that are unknown at a voxel, None where there are none.
    """

    bits: np.ndarray
    labelled: tuple[int, ...]
    unknown: np.ndarray | None = None

    def known(self, roi: int) -> np.ndarray | None:
        """Where the truth of a labelled ROI is known (bool, D H W); None: everywhere."""
        if self.unknown is None:
            return None
        unknown = roi_mask(self.unknown, roi)
        return ~unknown if unknown.any() else None

    def mask(self, roi: int) -> np.ndarray:
        """Where a labelled ROI is (bool, D H W)."""
        return roi_mask(self.bits, roi)

    def any_of(self, rois: Sequence[int]) -> np.ndarray:
        """Where any of these ROIs is (bool, D H W) and known to be; a ROI that is not labelled is nowhere."""
        wanted = self.bits.dtype.type(sum(1 << roi for roi in rois))
        bits = self.bits if self.unknown is None else self.bits & ~self.unknown
        return (bits & wanted) != 0


def families(rois: Sequence[str], organs: Mapping[str, str]) -> list[str]:
    """For each ROI the organ that it lies in (`organs`), or itself: ROIs of one family may share voxels."""
    return [organs.get(roi, roi) for roi in rois]


class TruthBuilder:
    """Collects the masks of one case, of `rois` ROIs in all, into a `CaseTruth`."""

    def __init__(self, shape: tuple[int, ...], rois: int) -> None:
        self._bits = np.zeros(shape, bits_dtype(rois))
        self._unknown: np.ndarray | None = None
        self._labelled: list[int] = []

    def add(self, roi: int, mask: np.ndarray, unknown: np.ndarray | None) -> None:
        """Add a labelled ROI: where it is, and where it is unknown (None: nowhere), both bool D H W."""
        self._labelled.append(roi)
        add_mask(self._bits, roi, mask)
        if unknown is not None:
            if self._unknown is None:
                self._unknown = np.zeros_like(self._bits)
            add_mask(self._unknown, roi, unknown)

    def truth(self) -> CaseTruth:
        return CaseTruth(self._bits, tuple(self._labelled), self._unknown)
