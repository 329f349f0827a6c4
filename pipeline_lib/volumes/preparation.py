"""What a volume's record says beyond the grids: where the patient is, and where each target is."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..geometry import Geometry, box_corners, triple
from ..randomness import random_generator
from .record import Voxel

BODY_ABOVE_HU = -500
FOREGROUND_VOXELS = 1000
_COARSE_MM = 4.0


def body_box(image: sitk.Image, volume_grid: Geometry) -> tuple[Voxel, Voxel]:
    """Half-open box (z, y, x) around the largest connected thing above −500 HU; all of the volume if there is none.

    Looked for at about 4 mm, after an opening by one voxel, so that the table is left out.
    """
    steps = [max(1, round(_COARSE_MM / side)) for side in image.GetSpacing()]
    coarse = sitk.Shrink(image, [min(step, side) for step, side in zip(steps, image.GetSize(), strict=True)])
    solid = sitk.BinaryMorphologicalOpening(coarse > BODY_ABOVE_HU, [1, 1, 1])
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(solid), sortByObjectSize=True)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(parts == 1)
    if not statistics.HasLabel(1):
        return (0, 0, 0), volume_grid.shape
    low, size = np.split(np.array(statistics.GetBoundingBox(1)), 2)
    ends = np.array([low - 1, low + size])  # one coarse voxel of margin on either side
    corners = [coarse.TransformContinuousIndexToPhysicalPoint([float(v) for v in c]) for c in box_corners(ends)]
    index = (np.array(corners) - volume_grid.origin_mm) / volume_grid.spacing_mm
    shape = np.array(volume_grid.size)
    start = np.clip(np.floor(index.min(axis=0)), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, start + 1, shape).astype(int)
    return triple(start[::-1]), triple(stop[::-1])


def foreground(mask: np.ndarray, corner: Voxel, *key: str | int) -> tuple[int, tuple[Voxel, ...]]:
    """Number of voxels of a mask (bool D H W) and up to 1,000 random ones, in order, keyed by `key`.

    `corner` is the place of the mask's first voxel in the volume.
    """
    in_slice = np.count_nonzero(mask, axis=(1, 2))
    ends = np.cumsum(in_slice)
    total = int(ends[-1]) if len(ends) else 0
    drawn = random_generator("foreground", *key).choice(total, min(total, FOREGROUND_VOXELS), replace=False)
    drawn.sort()
    voxels: list[Voxel] = []
    for z, (count, end) in enumerate(zip(in_slice, ends, strict=True)):
        first, last = np.searchsorted(drawn, (end - count, end))
        if first < last:
            flat = np.flatnonzero(mask[z])[drawn[first:last] - (end - count)]
            rows, columns = np.divmod(flat, mask.shape[2])
            places = np.stack([np.full_like(rows, z), rows, columns], axis=1) + corner
            voxels.extend(triple(place) for place in places)
    return total, tuple(voxels)
