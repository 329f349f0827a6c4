"""How much of a volume a patch sees, and at which spacing it sees enough."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .fingerprint import Numbers

ENOUGH_OF_A_VOLUME = 0.25
"""nnU-Net plans a second, coarser network where a patch holds less of the median volume (lowres_creation_threshold)."""
_STEP = 1.03


def patch_share(patch: Sequence[int], volume: Sequence[float]) -> float:
    """The share of a volume's voxels that a patch holds, both x y z in voxels; 1 where it is as large."""
    return prod(min(1.0, side / whole) for side, whole in zip(patch, volume, strict=True))


def coarser_spacing(spacing_mm: Numbers, patch: Sequence[int], volume: Sequence[float]) -> Numbers:
    """The spacing at which a patch holds ENOUGH_OF_A_VOLUME; `spacing_mm` itself where it does already.

    `volume` is x y z in voxels at `spacing_mm`. As in nnU-Net's planner all sides grow alike, except that sides
    finer than half the coarsest grow alone until they are not. Unlike there, no side of a patch counts beyond the
    volume's.
    """
    x, y, z = spacing_mm
    while True:
        spacing = (x, y, z)
        voxels = [whole * old / new for whole, old, new in zip(volume, spacing_mm, spacing, strict=True)]
        if patch_share(patch, voxels) >= ENOUGH_OF_A_VOLUME:
            return spacing
        coarsest = max(spacing)
        fine = [side for side in spacing if side < coarsest / 2]
        x, y, z = (side * _STEP if not fine or side in fine else side for side in spacing)
