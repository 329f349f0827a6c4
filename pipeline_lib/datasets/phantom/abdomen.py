"""Solid organs of the abdomen: liver, gallbladder, spleen, kidneys and pancreas, and the stomach between them."""

from __future__ import annotations

import numpy as np

from .frame import Array, Local
from .patient import Variation
from .shapes import curve, ellipsoid, smooth_cut, smooth_union, tube
from .torso import Scene

KIDNEYS = ("kidney_right", "kidney_left")


def paint_stomach(scene: Scene) -> None:
    """From the fundus under the left dome to the pylorus; the patient lies on the back, so gas gathers in front."""
    vary = scene.patient.variation("stomach")
    fill = vary.uniform(0.8, 1.2)
    line = curve(
        vary.points([(54, 16, 84), (66, -8, 58), (60, -38, 26), (36, -54, 2), (8, -52, -8), (-18, -40, -2)], 4),
        [20 + 10 * fill, 33 * fill, 29 * fill, 24 * fill, 18 * fill, 10],
        14,
    )
    local, distance = tube(scene.frame, *line, 10)
    distance = distance + scene.rough(local, "stomach", 2.5)
    distance = smooth_cut(distance, scene.below_diaphragm(local), 6)
    distance = smooth_cut(distance, scene.cavity[local.slices] + 4, 6)
    hu = scene.hu
    scene.canvas.paint(local, distance, hu["stomach_wall"], "stomach")
    scene.canvas.tint(local, distance + 4, hu["stomach_content"])
    level = vary.uniform(-62, -30)
    scene.canvas.tint(local, np.maximum(distance + 4, local.y - level), hu["gas"])


def paint_liver(scene: Scene) -> None:
    """A right lobe that fills the dome and a left one in front of the stomach, cut below by the visceral face."""
    vary = scene.patient.variation("liver")
    local = scene.frame.around(np.array([-145, -100, -95.0]), np.array([110, 95, 130.0]))
    size = vary.sizes(np.ones(3), 0.07)
    right = ellipsoid(local, vary.points([(-74, 4, 36)], 4)[0], size * (72, 86, 88), vary.tilt((0, 0, 0)), power=2.6)
    left_end = vary.uniform(0.75, 1.25)
    left = ellipsoid(
        local, vary.points([(0, -46, 58)], 4)[0], size * (74 * left_end, 34, 36), vary.tilt((0, 8, 6)), power=2.2
    )
    liver = smooth_union(right, left, 22) + scene.rough(local, "liver", 3.0)
    # The visceral face looks down, back and to the left.
    face = (-38 + vary.uniform(-14, 12)) + 0.42 * (local.x + 130) + 0.28 * local.y - local.z
    liver = smooth_cut(liver, 0.86 * face + scene.rough(local, "visceral face", 3.0), 12)
    # The right kidney and what lies behind it leave a hollow, the spine and its muscles another.
    hollow = ellipsoid(local, vary.points([(-54, 66, -4)], 3)[0], (46, 46, 62))
    liver = smooth_cut(liver, -hollow, 10)
    spine = ellipsoid(local, (4, 44, 40), (42, 40, 400))
    liver = smooth_cut(liver, -spine, 8)
    liver = smooth_cut(liver, scene.cavity[local.slices] + 3, 8)
    liver = smooth_cut(liver, scene.below_diaphragm(local), 8)
    scene.shapes["liver"] = local, liver
    scene.canvas.paint(local, liver, scene.hu["liver"], "liver")


def paint_gallbladder(scene: Scene) -> None:
    vary = scene.patient.variation("gallbladder")
    middle = vary.points([(-46, -44, -10)], 5)[0]
    local = scene.frame.around(middle - 50, middle + 50)
    bag = ellipsoid(local, middle, vary.sizes((14, 17, 27), 0.18), vary.tilt((25, 0, 0)))
    scene.canvas.paint(local, bag - 1.5, scene.hu["stomach_wall"])
    scene.canvas.paint(local, bag, scene.hu["gallbladder"], "gallbladder")


def paint_spleen(scene: Scene) -> None:
    """A crescent along the ribs behind the stomach."""
    vary = scene.patient.variation("spleen")
    middle = vary.points([(98, 32, 48)], 4)[0]
    local = scene.frame.around(middle - 110, middle + 110)
    size = vary.sizes(np.ones(3), 0.11)
    whole = ellipsoid(local, middle, size * (44, 48, 62), vary.tilt((-18, 12, 10)), power=2.4)
    hilum = ellipsoid(local, middle + np.array([-60, -14, 4]), (44, 44, 66), vary.tilt((0, 0, 0)))
    spleen = smooth_cut(whole + scene.rough(local, "spleen", 2.5), -hilum, 9)
    spleen = smooth_cut(spleen, -ellipsoid(local, (54, 64, 0), (46, 44, 64)), 8)
    spleen = smooth_cut(spleen, scene.cavity[local.slices] + 3, 6)
    spleen = smooth_cut(spleen, scene.below_diaphragm(local), 6)
    scene.canvas.paint(local, spleen - 3, scene.hu["organ_fat"])
    scene.canvas.paint(local, spleen, scene.hu["spleen"], "spleen")


def paint_kidneys(scene: Scene, absent: frozenset[str]) -> None:
    """Beside the spine behind the peritoneum, in their capsules of fat, the right one lower than the left."""
    for side, name in zip((-1, 1), KIDNEYS, strict=True):
        if name in absent:
            continue
        vary = scene.patient.variation(name)
        middle = vary.points([(side * 63, 42, -22 if side < 0 else -8)], 5)[0]
        local = scene.frame.around(middle - 95, middle + 95)
        size = vary.sizes(np.ones(3), 0.09)
        # The upper poles lean towards the spine and to the back.
        axes = vary.tilt((14, side * 13, side * 28), 5)
        kidney = ellipsoid(local, middle, size * (29, 24, 54), axes, power=2.2) + scene.rough(local, name, 1.6)
        sinus = ellipsoid(local, middle + axes @ (-side * 17, -4, 0), size * (17, 9, 24), axes)
        capsule = kidney
        kidney = smooth_cut(kidney, -sinus, 5)
        scene.shapes[name] = local, kidney
        canvas, hu = scene.canvas, scene.hu
        canvas.paint(local, _inside_cavity(scene, local, capsule - 8), hu["organ_fat"])
        inner = np.clip((-capsule - 6) / 4, 0, 1)
        tissue = hu["kidney_cortex"] + inner * (hu["kidney_medulla"] - hu["kidney_cortex"])
        canvas.paint(local, kidney, tissue, name)


def _inside_cavity(scene: Scene, local: Local, distance: Array) -> Array:
    return np.maximum(distance, scene.cavity[local.slices])


def paint_pancreas(scene: Scene) -> None:
    """Head in the loop of the duodenum, neck in front of the portal vein, tail towards the spleen."""
    vary = scene.patient.variation("pancreas")
    points = vary.points([(-30, -8, -26), (-24, -16, -8), (-4, -30, 2), (22, -24, 10), (48, -2, 20), (74, 18, 30)], 3.5)
    radii = vary.sizes((13, 17, 11, 11.5, 11, 9), 0.12)
    line = curve(points, radii, 10)
    local, distance = tube(scene.frame, *line, 12)
    pancreas = distance + scene.rough(local, "pancreas", 1.2)
    scene.branches["pancreas"] = [line]
    scene.canvas.paint(local, pancreas, _lobulated(scene, vary, local), "pancreas")


def _lobulated(scene: Scene, vary: Variation, local: Local) -> Array:
    """Fat between the lobules lowers the HU unevenly, more in some patients."""
    return scene.hu["pancreas"] - vary.uniform(2, 14) * (1 + scene.rough(local, "lobules", 0.7))
