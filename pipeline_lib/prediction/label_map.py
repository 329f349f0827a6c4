"""One label value per voxel, for programs that take nothing else; ROIs overlap, so a rule decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config.rois import is_lesion
from ..geometry import Geometry, to_canonical
from ..volumes.resampling import FOREGROUND, Box

RULE = (
    "The value of a ROI is its place in the list, from 1. A lesion is written over the organ that it lies in, so an "
    "organ is its own value and those of its lesions together. Where two organs, or two lesions, claim a voxel, the "
    "more probable one has it, of equal ones the first."
)

_LESION = 256
"""What a lesion's probability (0 … 255) is raised by."""


class LabelMap:
    """Label values (unsigned, D H W on `grid`) of the ROIs that are added one after another; `RULE` says which counts.

    `contested` counts how often two organs, or two lesions, claimed a voxel: what the map cannot show.
    """

    def __init__(self, grid: Geometry, rois: Sequence[str]) -> None:
        self.rois = tuple(rois)
        self.values = np.zeros(grid.shape, np.uint8 if len(rois) <= np.iinfo(np.uint8).max else np.uint16)
        self.contested = 0
        # The probability that has a voxel, 0 for nobody's; a lesion's is raised above those of all organs.
        self._claims = np.zeros(grid.shape, np.uint16)
        self._views = to_canonical(self.values, grid), to_canonical(self._claims, grid)

    def add(self, roi: str, box: Box, probability: np.ndarray) -> None:
        """Add a ROI by its `probability_on_original_grid`."""
        values, claims = (view[box] for view in self._views)
        mask = probability >= FOREGROUND
        lesion = is_lesion(roi)
        rivals = claims >= _LESION if lesion else (claims > 0) & (claims < _LESION)
        self.contested += int(np.count_nonzero(mask & rivals))
        claim = probability.astype(np.uint16)
        if lesion:
            claim += _LESION
        claim *= mask
        # Whole-array arithmetic, which wraps around: several times as fast as assigning where `claim` wins.
        values += (values.dtype.type(self.rois.index(roi) + 1) - values) * (claim > claims)
        np.maximum(claims, claim, out=claims)
