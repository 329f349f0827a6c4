"""Small CTs in HU, made up: air, fat, tissue and bone, enough for a tiny network to say something about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from pipeline_lib.geometry import Geometry

GRID = Geometry(size=(30, 26, 14), spacing_mm=(3.0, 3.0, 6.0), origin_mm=(-40.0, 20.0, 7.0))


def hounsfield(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """int16 D H W: an ellipse of noisy tissue with a rim of fat and a spine of bone, in air."""
    _, height, width = shape
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.hypot(x / 0.9, y / 0.8)
    plane = np.select([radius < 0.75, radius < 1], [50, -100], -1000) + 700 * (np.hypot(x, y - 0.4) < 0.15)
    return (plane + rng.normal(0, 40, shape)).clip(-1024, 1500).astype(np.int16)


def write_ct(path: Path, grid: Geometry = GRID, seed: int = 0) -> Path:
    """Write such a CT on `grid` in the format that `path` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(grid.image(hounsfield(grid.shape, seed)), str(path))
    return path
