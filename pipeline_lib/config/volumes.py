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
        default=(160, 160, 96),
        description="Patch size (x, y, z) in voxels; the networks need sides that divide by 32 (swin_unetr) or 16 "
        "(dodnet).",
    )
    pool_size: Count = Field(
        default=64, description="Patch positions kept for each training case; training draws crops from them."
    )
    foreground_fraction: Fraction = Field(
        default=0.8,
        description="Share of the pool around a voxel of a labelled ROI, each labelled ROI equally often, as in "
        "TransDoDNet; the rest is anywhere in the body (0.8: DoDNet's share, of crops in the box of all foreground).",
    )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Patch shape in array order (D, H, W) = (z, y, x)."""
        x, y, z = self.size_voxels
        return z, y, x
