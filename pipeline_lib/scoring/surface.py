"""Distances between surfaces: normalised surface Dice and the 95th percentile Hausdorff distance (HD95).

MONAI computes both. Its surface Dice weights each surface element by its area (Nikolov et al., arXiv:1809.04430), which
matters where slices are much thicker than pixels. Its HD95, the larger of the two directed 95th percentiles, is that of
edge voxels, each of which counts once whatever its area.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np

HAUSDORFF_PERCENTILE = 95.0


class SurfaceScores(NamedTuple):
    """Surface Dice (0 … 1) and HD95 in mm; NaN where they are not defined."""

    dice: float
    hd95_mm: float


def surface_scores(
    prediction: np.ndarray, truth: np.ndarray, spacing_mm: tuple[float, float, float], tolerance_mm: float
) -> SurfaceScores:
    """Surface Dice at a tolerance, and HD95, of one ROI.

    Parameters
    ----------
    prediction, truth: bool, D H W, on the same grid.
    spacing_mm: voxel spacing (x, y, z) in mm.
    tolerance_mm: distance up to which a surface element counts as correct.

    Returns
    -------
    Both masks empty: both scores are NaN. One empty: the surface Dice is 0 and HD95 is NaN, since there is no distance
    to a surface that does not exist.
    """
    if not prediction.any() and not truth.any():
        return SurfaceScores(math.nan, math.nan)
    if not prediction.any() or not truth.any():
        return SurfaceScores(0.0, math.nan)
    # Only here: the report reads the table of scores and starts twice as fast without PyTorch.
    import torch

    from ..monai_parts import compute_hausdorff_distance, compute_surface_dice

    box = bounding_box(prediction | truth)
    predicted, true = (torch.from_numpy(_with_margin(mask[box]))[None, None] for mask in (prediction, truth))
    spacing_zyx = list(reversed(spacing_mm))
    with warnings.catch_warnings():
        # MONAI 1.6 calls its own function with an argument that it has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        surface_dice = compute_surface_dice(
            y_pred=predicted,
            y=true,
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=spacing_zyx,
            use_subvoxels=True,
        )
        hausdorff = compute_hausdorff_distance(
            y_pred=predicted, y=true, include_background=True, percentile=HAUSDORFF_PERCENTILE, spacing=spacing_zyx
        )
    return SurfaceScores(float(surface_dice), float(hausdorff))


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box that contains all voxels of a non-empty mask."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def _with_margin(mask: np.ndarray) -> np.ndarray:
    # An organ that the field of view cuts off has a surface there too.
    return np.pad(mask, 1)
