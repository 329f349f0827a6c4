"""Where the false voxels of a prediction lie: in another organ, near the ROI's own border, or elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEAR_BORDER_MM = 3.0
"""False voxels up to this far from the true surface are a matter of the border."""
_ROUNDING = 1e-6


@dataclass(frozen=True)
class FalseVoxels:
    """Counts of the predicted voxels of one ROI in one case that are not in the truth; each counts once."""

    in_other: int
    near_border: int
    elsewhere: int


def false_voxels(
    prediction: np.ndarray, truth: np.ndarray, others: np.ndarray, spacing_mm: tuple[float, float, float]
) -> FalseVoxels:
    """Count them by where they lie.

    Parameters
    ----------
    prediction, truth: bool, D H W.
    others: bool, D H W, where another labelled organ is. A false voxel there counts for it, however near the border.
    spacing_mm: voxel spacing (x, y, z) in mm.
    """
    false = prediction & ~truth
    in_other = int(np.count_nonzero(false & others))
    rest = false & ~others
    left = int(np.count_nonzero(rest))
    near = int(np.count_nonzero(rest & within(truth, spacing_mm, NEAR_BORDER_MM))) if left and truth.any() else 0
    return FalseVoxels(in_other, near, left - near)


def within(mask: np.ndarray, spacing_mm: tuple[float, float, float], distance_mm: float) -> np.ndarray:
    """Voxels (bool, D H W) whose centres are at most `distance_mm` from the mask, whose voxels are boxes.

    Exact and separable: the squared distance to a box is a sum over axes, so its minimum is found axis by axis.
    """
    nearest = np.where(mask, np.float32(0), np.float32(np.inf))
    for axis, spacing in enumerate(reversed(spacing_mm)):
        before = np.moveaxis(nearest, axis, 0)
        nearest = nearest.copy()
        after = np.moveaxis(nearest, axis, 0)
        # A box ends half a voxel beyond its centre.
        for step in range(1, min(int(distance_mm / spacing + 0.5 + _ROUNDING), len(before) - 1) + 1):
            further = np.float32(((step - 0.5) * spacing) ** 2)
            np.minimum(after[step:], before[:-step] + further, out=after[step:])
            np.minimum(after[:-step], before[step:] + further, out=after[:-step])
    return nearest <= distance_mm**2 * (1 + _ROUNDING)
