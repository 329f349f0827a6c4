"""Resampled volumes, and the patches that are cut from them."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from .section import Count, Fraction, Millimetres, Section


class Volumes(Section):
    """How raw cases become volumes: axis-aligned LPS orientation, one spacing, one intensity window."""

    spacing_mm: tuple[Millimetres, Millimetres, Millimetres] = Field(
        default=(0.8, 0.8, 1.5),
        description="Voxel spacing (x, y, z) in mm of every volume (DoDNet's choice).",
    )
    window_hu: tuple[float, float] = Field(
        default=(-325.0, 325.0),
        description="Lowest and highest HU kept; the networks see the window scaled to −1…1 (DoDNet's choice).",
    )

    @model_validator(mode="after")
    def _window_is_an_interval(self) -> Self:
        if self.window_hu[0] >= self.window_hu[1]:
            raise ValueError("`window_hu` must be [low, high] with low < high")
        return self


class Patches(Section):
    """The patch that every network sees, and the pool of patch positions of each training case."""

    size_voxels: tuple[Count, Count, Count] = Field(
        default=(160, 160, 96), description="Patch size (x, y, z) in voxels; every side divides by 32."
    )
    pool_size: Count = Field(
        default=64, description="Patch positions kept for each training case; training draws crops from them."
    )
    foreground_fraction: Fraction = Field(
        default=0.8,
        description="Share of the pool around a labelled ROI's voxel (each labelled ROI equally often), "
        "the rest is anywhere in the body (0.8: DoDNet's share).",
    )

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        # SwinUNETR halves every side five times, and InstanceNorm needs more than one voxel at the bottom.
        if any(side % 32 for side in self.size_voxels):
            raise ValueError(
                f"`size_voxels` {list(self.size_voxels)}: every side must divide by 32 (32, 64, 96, 128, …)"
            )
        if max(self.size_voxels) == 32:
            raise ValueError("`size_voxels`: at least one side must be larger than 32")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Patch shape in array order (D, H, W) = (z, y, x)."""
        x, y, z = self.size_voxels
        return z, y, x
