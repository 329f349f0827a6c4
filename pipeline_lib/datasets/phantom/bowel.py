"""Duodenum, small bowel and the frame of the colon."""

from __future__ import annotations

import numpy as np

from .frame import Array
from .shapes import curve, ellipsoid, tube
from .torso import Scene


def paint_duodenum(scene: Scene) -> None:
    vary = scene.patient.variation("duodenum")
    line = curve(
        vary.points([(-20, -40, -2), (-46, -24, 2), (-52, -4, -30), (-38, 2, -62), (0, 0, -66), (28, -12, -42)], 3),
        vary.sizes((12, 12, 12, 12, 11, 11), 0.1),
        12,
    )
    local, distance = tube(scene.frame, *line, 8)
    scene.canvas.paint(local, distance + scene.rough(local, "duodenum", 1.0), scene.hu["bowel_wall"], "duodenum")
    scene.canvas.tint(local, distance + 4, scene.hu["bowel_content"])


def paint_small_bowel(scene: Scene) -> None:
    """A tangle: the loops are the layers of a smooth random field, folded through the lower middle of the belly."""
    vary = scene.patient.variation("small bowel")
    middle = vary.points([(4, -34, -108)], 6)[0]
    local = scene.frame.around(middle - 125, middle + 125)
    space = ellipsoid(local, middle, vary.sizes((92, 46, 66), 0.08), power=2.4)
    space = np.maximum(space, scene.cavity[local.slices] + 5)
    folds = scene.rough(local, "loops", 1.0) / max(scene.patient.deformation, 1e-6)
    folds = 4.0 * np.sin(1.6 * folds + 0.09 * local.z + 0.06 * local.x + 0.05 * local.y)
    loops = np.maximum(space, 2.2 * folds - 5)
    scene.canvas.paint(local, loops, scene.hu["bowel_wall"], "small_bowel")
    scene.canvas.tint(local, loops + 4, scene.hu["bowel_content"])


def paint_colon(scene: Scene) -> None:
    """From the caecum up the right flank, across behind the front wall, and down the left flank."""
    vary = scene.patient.variation("colon")
    points = vary.points(
        [(-96, -12, -152), (-104, 2, -118), (-108, 12, -84), (-100, 4, -54), (-74, -42, -52), (-36, -64, -62),
         (0, -68, -68), (40, -64, -54), (76, -44, -24), (104, 2, 8), (112, 22, -22), (110, 22, -70), (104, 10, -120),
         (84, -4, -156), (52, -8, -176), (20, 4, -190)], 4.5,
    )  # fmt: skip
    radii = vary.sizes([30, 29, 26, 24, 22, 22, 22, 21, 21, 20, 18, 17, 17, 17, 16, 16], 0.12)
    points, radii = curve(points, radii, 8)
    # Haustra: pouches about 35 mm long.
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    radii = radii * (1 + 0.1 * np.sin(2 * np.pi * length / 35 + vary.uniform(0, 6)))
    scene.branches["colon"] = [(points, radii)]
    local, distance = tube(scene.frame, points, radii, 8)
    distance = np.maximum(distance + scene.rough(local, "colon", 1.5), scene.cavity[local.slices] + 3)
    scene.shapes["colon"] = local, distance
    scene.canvas.paint(local, distance, scene.hu["bowel_wall"], "colon")
    scene.canvas.tint(local, distance + 3.5, _contents(scene, local.z))


def _contents(scene: Scene, z: Array) -> Array:
    """Stool and gas in turns along the colon."""
    vary = scene.patient.variation("contents of the colon")
    waves = np.sin(z / 17 + vary.uniform(0, 6)) + vary.uniform(-0.9, 0.5)
    gas = np.clip(3 * waves, 0, 1)
    return scene.hu["stool"] + gas * (scene.hu["gas"] - scene.hu["stool"])
