"""The scanner's side of a case: field of view, voxel size and how the patient lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...config.datasets import PhantomSource
from .frame import Grid, Pose
from .patient import Patient

Range = tuple[float, float]

# Lowest and highest bottom, lowest and highest top of the field of view; torso mm.
_REGIONS: dict[str, tuple[Range, Range]] = {
    "upper_abdomen": ((-100, -62), (112, 140)),
    "abdomen": ((-182, -150), (92, 130)),
    "chest": ((34, 78), (262, 284)),
    "trunk": ((-178, -130), (225, 282)),
}
_TRUNK_IN_PART = 0.4


@dataclass(frozen=True)
class View:
    """Voxels and pose of one case."""

    grid: Grid
    pose: Pose


def choose_view(patient: Patient, source: PhantomSource, body_scale: float) -> View:
    """The case's grid in scanner coordinates (LPS, mm) and the pose of the torso in it."""
    generator = patient.generator("view")
    scale, rotation = patient.build(body_scale)
    bottom, top = _heights(generator, source.region)
    step = np.array(source.spacing_mm)
    in_plane, between = generator.uniform(0.88, 1.15), generator.choice([0.8, 1.0, 1.0, 1.25])
    spacing = np.round(step * (in_plane, in_plane, between), 4)
    # One case in seven is cut at the flanks by a narrow field of view.
    width = generator.uniform(375, 420) if generator.random() > 0.15 else generator.uniform(310, 350)
    depth = width * generator.uniform(0.74, 0.86)
    extent = np.array([width, depth, top - bottom]) * scale
    count = np.maximum(np.round(extent / spacing).astype(int), 8)
    middle = generator.uniform((-25, -190, -900), (25, -150, 300))
    lie = generator.normal(0, (5, 4, 0))
    origin = middle - spacing * (count - 1) / 2
    offset = middle + lie - rotation @ (scale * np.array([0, 6, (top + bottom) / 2]))
    grid = Grid(tuple(int(side) for side in count[::-1]), tuple(map(float, spacing)), tuple(map(float, origin)))
    return View(grid, Pose(rotation, scale, offset))


def _heights(generator: np.random.Generator, region: str) -> Range:
    """Bottom and top of the field of view; of a trunk, at times only a part, as in clinical archives."""
    if region == "trunk" and generator.random() < _TRUNK_IN_PART:
        region = str(generator.choice(["abdomen", "chest", "upper_abdomen"]))
    bottom, top = _REGIONS[region]
    return float(generator.uniform(*bottom)), float(generator.uniform(*top))
