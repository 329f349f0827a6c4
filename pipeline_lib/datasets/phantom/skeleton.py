"""Bones: the spine level by level, ribs, breastbone and the upper pelvis."""

from __future__ import annotations

import numpy as np

from .frame import Array, Local
from .shapes import curve, tube
from .torso import Scene, spine_y

# Heights (z, mm) of the middles of the vertebrae.
LEVELS: dict[str, float] = {
    "L5": -141, "L4": -106, "L3": -71, "L2": -36, "L1": 0, "T12": 32, "T11": 61, "T10": 88, "T9": 114, "T8": 139,
    "T7": 163, "T6": 186, "T5": 208, "T4": 229, "T3": 249, "T2": 268, "T1": 286, "C7": 303,
}  # fmt: skip
_LAST_ANGLE = (2.3, 2.35, 2.4, 2.4, 2.35, 2.3, 2.25, 2.1, 2.0, 1.9, 1.45, 1.1)


def paint_skeleton(scene: Scene) -> None:
    """Paint all bones; they cover fat and muscle."""
    _paint_ribs(scene)
    _paint_breastbone(scene)
    _paint_pelvis(scene)
    _paint_shoulder_girdle(scene)
    _paint_spine(scene)


def _bone(scene: Scene, depth: Array, cortex: float) -> Array:
    """HU of bone by its distance: a dense cortex (mm) around spongy bone."""
    dense = np.clip((depth + cortex) / 2 + 0.5, 0, 1)
    return scene.hu["spongy_bone"] + dense * (scene.hu["bone"] - scene.hu["spongy_bone"])


def _paint_spine(scene: Scene) -> None:
    canvas = scene.canvas
    local = scene.frame.around(np.array([-48, 5, -175.0]), np.array([48, 122, 320.0]))
    names, middles = list(LEVELS), np.array(list(LEVELS.values()))
    borders = np.concatenate([[-161], (middles[1:] + middles[:-1]) / 2, [320]]).astype(np.float32)
    level = np.clip(np.searchsorted(borders, local.z) - 1, 0, len(names) - 1)
    to_disc = np.minimum(local.z - borders[level], borders[level + 1] - local.z)
    width = np.interp(local.z, (-150, 0, 100, 290), (26, 23, 18, 14)).astype(np.float32)
    depth = np.interp(local.z, (-150, 0, 100, 290), (18, 17, 16, 11)).astype(np.float32)
    y = local.y - spine_y(local.z)
    body = np.sqrt(local.x**2 + y**2) * (1 - 1 / np.maximum(np.sqrt((local.x / width) ** 2 + (y / depth) ** 2), 1e-3))
    canvas.paint(local, np.maximum(body, -170 - local.z), scene.hu["disc"])
    bodies = np.maximum(body, 3.5 - to_disc)

    behind = y - depth
    canal = np.sqrt(local.x**2 + (behind - 10) ** 2)
    arch = np.maximum(np.abs(canal - 11.5) - 3.5, 5 - to_disc)
    from_middle = local.z - middles[level].astype(np.float32)
    spinous = np.maximum(np.maximum(np.abs(local.x) - 3.5, np.abs(behind - 33) - 15), np.abs(from_middle + 3) - 9)
    transverse = np.maximum(np.sqrt((behind - 8) ** 2 + (from_middle - 3) ** 2) - 5, np.abs(np.abs(local.x) - 20) - 15)
    vertebrae = np.minimum(np.minimum(bodies, arch), np.minimum(spinous, transverse))
    canvas.paint(local, canal - 9, scene.hu["spinal_cord"])
    vertebrae = np.maximum(vertebrae, borders[0] - local.z)
    hu = _bone(scene, vertebrae, 2.0)
    for index, name in enumerate(names):
        here = np.flatnonzero((level == index).any(axis=(1, 2)))
        if len(here):
            rows = slice(here[0], here[-1] + 1)
            part = Local(
                (slice(local.slices[0].start + rows.start, local.slices[0].start + rows.stop), *local.slices[1:]),
                local.x[rows], local.y[rows], local.z[rows],
            )  # fmt: skip
            apart = np.where(level[rows] == index, vertebrae[rows], np.float32(99))
            canvas.paint(part, apart, hu[rows], f"vertebrae_{name}")


def _paint_ribs(scene: Scene) -> None:
    """Ribs run in the wall from their vertebra to the flank and down; each is a band in (angle, height, depth)."""
    canvas, hu = scene.canvas, scene.hu
    shell = np.flatnonzero((np.abs(scene.cavity - 5) < 14) & (scene.frame.z > -60) & (scene.angle > 0.1))
    depth, angle = scene.cavity.ravel()[shell] - 5, scene.angle.ravel()[shell]
    x, z = scene.frame.x.ravel()[shell], scene.frame.z.ravel()[shell]
    image, structure = canvas.hu.reshape(-1), canvas.structure.reshape(-1)
    vary = scene.patient.variation("ribs")
    steep = 60 * vary.sizes(np.ones(1), 0.12)[0]
    fall = steep * (1 - np.cos(np.minimum(angle, 2.2)))
    edge = np.float32(scene.frame.voxel)
    for number in range(1, 13):
        last = _LAST_ANGLE[number - 1]
        height = LEVELS[f"T{number}"] + 5 - min(1.0, 0.45 + 0.14 * number) * fall
        band = (np.sqrt((depth / 4.5) ** 2 + ((z - height) / 6.0) ** 2) - 1) * np.float32(5)
        band = np.maximum(band, (angle - last) * 80)
        share = np.clip(0.5 - band / edge, 0, 1)
        image[shell] += share * (hu["bone"] - 60 - image[shell])
        if number <= 7:
            cartilage = np.maximum(np.sqrt((depth / 4) ** 2 + ((z - height) / 6) ** 2) * 5 - 5, (last - angle) * 80)
            image[shell] += np.clip(0.5 - cartilage / edge, 0, 1) * (hu["cartilage"] - image[shell])
        for side, chosen in (("right", x < 0), ("left", x >= 0)):
            structure[shell[(band < 0) & chosen]] = canvas.index(f"rib_{side}_{number}")


def _paint_shoulder_girdle(scene: Scene) -> None:
    """Shoulder blades on the back of the ribs, collar bones in front of the first."""
    local = scene.frame.around(np.array([-175, -30, 140.0]), np.array([175, 120, 300.0]))
    depth, angle = scene.cavity[local.slices] - 19, scene.angle[local.slices]
    for side, name in ((-1, "right"), (1, "left")):
        # A triangle with its tip below, in the plane of angle and height.
        blade = np.maximum(np.abs(depth) - 3, (np.abs(angle - 0.95) - 0.0055 * (local.z - 155)) * 80)
        blade = np.maximum(np.maximum(blade, np.abs(local.z - 215) - 60), 1 - side * local.x)
        scene.canvas.paint(local, blade, _bone(scene, blade, 3.0), f"scapula_{name}")
        collar = curve([(side * 22, -62, 242), (side * 70, -62, 258), (side * 118, -22, 274)], [7, 6, 7], 20)
        box, distance = tube(scene.frame, *collar, 6)
        scene.canvas.paint(box, distance, _bone(scene, distance, 2.5), f"clavicula_{name}")


def _paint_breastbone(scene: Scene) -> None:
    local = scene.frame.around(np.array([-30, -125, 95.0]), np.array([30, -20, 260.0]))
    plate = np.maximum(np.abs(local.x) - 17, np.abs(scene.cavity[local.slices] - 6) - 5)
    plate = np.maximum(plate, np.abs(local.z - 172) - 62)
    plate = np.maximum(plate, 2.6 - scene.angle[local.slices])
    scene.canvas.paint(local, plate, _bone(scene, plate, 2.0))


def _paint_pelvis(scene: Scene) -> None:
    """Wings of the hip bones in the wall of the false pelvis, and the top of the sacrum."""
    local = scene.frame.around(np.array([-150, -110, -260.0]), np.array([150, 125, -90.0]))
    cavity, angle = scene.cavity[local.slices], scene.angle[local.slices]
    crest = -104 - 55 * (angle - 1.0) ** 2
    wing = np.maximum(np.abs(cavity + 3) - 5, local.z - crest)
    wing = np.maximum(wing, np.maximum(angle - 2.1, 0.32 - angle) * 70)
    hu = _bone(scene, wing, 2.5)
    for side, name in ((-1, "right"), (1, "left")):
        scene.canvas.paint(local, np.maximum(wing, -side * local.x), hu, f"hip_{name}")
    y = local.y - 60
    sacrum = np.maximum(np.sqrt((local.x / 50) ** 2 + (y / 24) ** 2) * 30 - 30, local.z + 163)
    scene.canvas.paint(local, sacrum, _bone(scene, sacrum, 2.0), "sacrum")
