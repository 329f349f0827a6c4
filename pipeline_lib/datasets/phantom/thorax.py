"""Heart, airways and the lungs in their five lobes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .frame import Array, Local
from .shapes import Branch, curve, ellipsoid, smooth_union, tube, tubes
from .torso import Scene, spine_y
from .trees import grow_tree

# Chambers of the heart: middle relative to the heart's, radii, typical tilt (degrees about x, y, z), contents.
_CHAMBERS = (
    ("heart_ventricle_right", (-22, -20, -8), (40, 25, 36), (0, 20, -28), "heart_right"),
    ("heart_atrium_right", (-52, 8, 12), (22, 28, 32), (0, 0, 0), "heart_right"),
    ("heart_atrium_left", (-10, 36, 28), (34, 19, 24), (0, 0, 0), "heart_left"),
)


def paint_lungs_and_airways(scene: Scene) -> None:
    """The lungs leave room for what lies between them; the airways enter them."""
    _paint_lungs(scene, _heart_middle(scene))
    _paint_airways(scene)


def _heart_middle(scene: Scene) -> NDArray[np.float64]:
    return scene.patient.variation("heart").points([(27, -42, 128)], 5)[0]


def paint_heart(scene: Scene) -> None:
    """Four chambers and the muscle around the left ventricle."""
    middle = _heart_middle(scene)
    canvas, hu = scene.canvas, scene.hu
    vary = scene.patient.variation("heart shape")
    size = vary.sizes(np.ones(1), 0.08)[0]
    local = scene.frame.around(middle - 110, middle + 110)
    rough = scene.rough(local, "heart", 1.5)
    for name, offset, radii, tilt, blood in _CHAMBERS:
        shape = ellipsoid(local, middle + size * np.array(offset), size * np.array(radii), vary.tilt(tilt, 4)) + rough
        canvas.paint(local, shape - 2, hu["myocardium"])
        canvas.paint(local, shape, hu[blood], name)
    axes = vary.tilt((0, 22, 35), 4)
    ventricle = ellipsoid(local, middle + size * np.array([14, 2, -10]), size * np.array([50, 33, 34]), axes) + rough
    canvas.paint(local, ventricle, hu["myocardium"], "heart_myocardium")
    chamber = ellipsoid(local, middle + size * np.array([9, 4, -8]), size * np.array([36, 19, 20]), axes) + rough
    canvas.paint(local, chamber, hu["heart_left"], "heart_ventricle_left")


def _paint_airways(scene: Scene) -> None:
    frame, canvas, hu = scene.frame, scene.canvas, scene.hu
    vary = scene.patient.variation("airways")
    gullet = curve(
        vary.points([(4, 12, 300), (3, 22, 240), (0, 26, 190), (8, 24, 140), (20, 14, 105), (32, 6, 86)], 2),
        [8, 8, 8, 8, 9, 9], 15,
    )  # fmt: skip
    canvas.paint(*tube(frame, *gullet, 6), hu["bowel_wall"], "esophagus")
    trunk = curve(vary.points([(0, -4, 310), (0, 4, 260), (-2, 10, 212)], 2), [9, 9, 9], 15)
    local, distance = tube(frame, *trunk, 6)
    canvas.paint(local, distance - 1.5, hu["bowel_wall"])
    canvas.paint(local, distance, hu["airway"], "trachea")
    for far in ((-42, 12, 178), (48, 14, 180)):
        bronchus = curve([(-2, 10, 213), (far[0] * 0.5, 11, 194), far], [7.5, 6.5, 5.5], 12)
        canvas.paint(*tube(frame, *bronchus, 6), hu["airway"])


def _paint_lungs(scene: Scene, heart: NDArray[np.float64]) -> None:
    local = scene.frame.around(np.array([-140, -110, 0.0]), np.array([140, 110, 300.0]))
    cavity, dome = scene.cavity[local.slices], scene.diaphragm[local.slices]
    chest = np.maximum(cavity + 2, dome - local.z + 0.5)
    between = _mediastinum(local, heart)
    vary = scene.patient.variation("lungs")
    tilt, height = vary.uniform(0.82, 1.05), vary.uniform(-10, 10)
    oblique = local.z - (215 + height) - (local.y - 65) * tilt + scene.rough(local, "fissures", 4)
    horizontal = local.z - (152 + height)
    hu = scene.hu["lung"] + 0.45 * local.y + 25 * scene.rough(local, "lung", 1.0)
    for side, name in ((-1, "right"), (1, "left")):
        lung = np.maximum(np.maximum(chest, 3 - side * local.x), -between)
        scene.shapes[f"lung_{name}"] = local, lung
        scene.canvas.paint(local, lung, hu, f"lung_lower_lobe_{name}")
        upper = np.maximum(lung, -oblique)
        _name(scene, local, upper, f"lung_upper_lobe_{name}")
        if name == "right":
            _name(scene, local, np.maximum(upper, horizontal), "lung_middle_lobe_right")
        _paint_vessels(scene, local, lung, side)


def _name(scene: Scene, local: Local, distance: Array, name: str) -> None:
    scene.canvas.structure[local.slices][distance < 0] = scene.canvas.index(name)


def _mediastinum(local: Local, heart: NDArray[np.float64]) -> Array:
    """Distance to what no lung reaches: heart and great vessels in fat, and the spine."""
    sac = ellipsoid(local, heart + np.array([-4, 2, 0]), (68, 52, 56), power=2.3)
    right = np.sqrt(((local.x + 2) / 31) ** 2 + ((local.y + 12) / 46) ** 2)
    trunk = np.maximum((right - 1) * 34, 165 - local.z)
    spine = np.sqrt(local.x**2 + (local.y - spine_y(local.z) - 2) ** 2) - 27
    aorta = np.sqrt((local.x - 22) ** 2 + (local.y - spine_y(local.z) + 20) ** 2) - 18
    gullet = (np.sqrt(((local.x - 4) / 16) ** 2 + ((local.y - 12) / 38) ** 2) - 1) * 16
    return smooth_union(smooth_union(sac, trunk, 25), np.minimum(np.minimum(spine, aorta), gullet), 12)


def _paint_vessels(scene: Scene, local: Local, lung: Array, side: int) -> None:
    """Arteries and veins of a lung, which fan out from its root; they belong to the lobes, as in published masks."""
    generator = scene.patient.generator(f"lung vessels {side}")
    root = np.array([side * 38.0, 2, 175])
    ends = [(75, -45, 215), (85, 30, 225), (60, 0, 250), (100, -30, 165), (95, -50, 130), (105, 35, 135), (80, 50, 90),
            (70, 10, 110)]  # fmt: skip
    branches: list[Branch] = []
    for x, y, z in ends:
        end = np.array([side * x, y, z]) + generator.normal(0, 8, 3)
        branches += grow_tree(generator, root, end, radius=4.2, generations=1, children=3, length=32, step=22)
    scene.canvas.tint(local, np.maximum(tubes(scene.frame, local, branches, 4), lung), 20)
