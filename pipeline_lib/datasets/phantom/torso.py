"""The trunk that holds the organs: couch, skin, fat, muscle, the cavity inside and the diaphragm across it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .canvas import Canvas
from .frame import Array, Frame, Local
from .patient import Patient, Roughness
from .shapes import Branch, curve, tube

# Half width, half depth and middle (y) of the cavity, and of the muscle around it, by height z; mm.
_HEIGHTS = (-190, -120, -60, 0, 60, 110, 150, 200, 240, 270, 290, 310)
_CAVITY_WIDTH = (126, 130, 132, 133, 134, 132, 126, 112, 92, 68, 45, 20)
_CAVITY_DEPTH = (78, 80, 81, 83, 86, 90, 90, 82, 66, 50, 35, 15)
_CAVITY_MIDDLE = (-8, -6, -5, -4, -2, 0, 0, 2, 8, 14, 18, 20)
_MUSCLE_WIDTH = (150, 147, 146, 147, 149, 150, 152, 158, 165, 158, 130, 85)
_MUSCLE_DEPTH = (97, 97, 97, 99, 102, 105, 105, 100, 88, 76, 66, 60)

_SPINE_HEIGHTS = (-190, -141, -106, -71, 0, 60, 140, 220, 290, 310)
_SPINE_Y = (62, 44, 36, 33, 38, 47, 57, 58, 46, 40)


def spine_y(z: Array | float) -> Array:
    """Position (y, mm) of the middle of the vertebral bodies at height z."""
    return np.interp(z, _SPINE_HEIGHTS, _SPINE_Y).astype(np.float32)


@dataclass
class Scene:
    """Everything that the painters of one case share.

    `cavity` and `muscle` are distances (D H W, mm, negative inside) to the inner and the outer face of the trunk's
    wall, `angle` is 0 behind and π in front (D H W), `diaphragm` the height (z, mm) of the diaphragm above or below
    each voxel. `shapes` and `branches` keep the distances and the tubes that later painters need.
    """

    frame: Frame
    canvas: Canvas
    patient: Patient
    rough: Roughness
    hu: dict[str, float]
    cavity: Array
    muscle: Array
    angle: Array
    diaphragm: Array
    shapes: dict[str, tuple[Local, Array]] = field(default_factory=dict)
    branches: dict[str, list[Branch]] = field(default_factory=dict)

    def below_diaphragm(self, local: Local) -> Array:
        """Distance to the space below the diaphragm, over the box."""
        return local.z - self.diaphragm[local.slices] + 1.5


def make_scene(frame: Frame, patient: Patient, hu: dict[str, float], background_hu: float) -> Scene:
    local = frame.everywhere
    middle = np.interp(local.z, _HEIGHTS, _CAVITY_MIDDLE).astype(np.float32)
    cavity = _ring(local, middle, _CAVITY_WIDTH, _CAVITY_DEPTH)
    return Scene(
        frame=frame,
        canvas=Canvas(frame, background_hu),
        patient=patient,
        rough=Roughness(patient, frame.grid, float(np.mean(frame.pose.scale))),
        hu=hu,
        cavity=cavity,
        muscle=np.maximum(_ring(local, middle, _MUSCLE_WIDTH, _MUSCLE_DEPTH), cavity - 40),
        angle=np.pi - np.arctan2(np.abs(local.x), middle - local.y),
        diaphragm=_diaphragm(local, patient),
    )


def _ring(local: Local, middle: Array, widths: tuple[float, ...], depths: tuple[float, ...]) -> Array:
    """Distance to a trunk-shaped outline in each axial plane, along the ray from its middle; D H W, mm."""
    power = np.float32(2.3)
    width = np.interp(local.z, _HEIGHTS, widths).astype(np.float32)
    depth = np.interp(local.z, _HEIGHTS, depths).astype(np.float32)
    y = local.y - middle
    norm = ((np.abs(local.x) / width) ** power + (np.abs(y) / depth) ** power) ** (1 / power)
    return np.sqrt(local.x**2 + y**2) * (1 - 1 / np.maximum(norm, np.float32(1e-3)))


def _diaphragm(local: Local, patient: Patient) -> Array:
    """Height of the diaphragm, D H W, mm: a dome on each side that falls steeply to the back and the flanks."""
    vary = patient.variation("diaphragm")
    # How deep the patient breathes in moves both domes together.
    breath = vary.uniform(-12, 10)
    heights = 110 + breath, 98 + breath + vary.uniform(-6, 4)
    domes = []
    for side, height in zip((-1, 1), heights, strict=True):
        out = ((local.x - side * 64) / 92) ** 2 + ((local.y + 22) / 98) ** 2
        domes.append(height - 72 * np.minimum(out, 1.25))
    left = 1 / (1 + np.exp(-local.x / 14))
    return (domes[0] + left * (domes[1] - domes[0])).astype(np.float32)


def paint_trunk(scene: Scene) -> None:
    """Couch, skin, fat under the skin, the muscle of the wall and the fat inside the cavity."""
    frame, canvas, hu = scene.frame, scene.canvas, scene.hu
    local = frame.everywhere
    vary = scene.patient.variation("fat")
    thickness = vary.uniform(7, 30)
    # Fat is thinner over the ribs, and thickest at the flanks.
    by_height = np.interp(local.z, (-100, 20, 120, 260), (1.0, 1.0, 0.6, 0.5)).astype(np.float32)
    fat = thickness * by_height * (1 + 0.25 * np.sin(scene.angle)) + scene.rough(local, "fat", 1.5)
    outer = scene.muscle - np.maximum(fat, 4)
    _paint_couch(scene)
    canvas.paint(local, outer, hu["skin"])
    canvas.paint(local, outer + 2.5, hu["fat"])
    canvas.paint(local, scene.muscle, hu["muscle"])
    # Fat between the ribs and the muscles that move the shoulder.
    between = np.maximum(np.abs(scene.cavity - 14) - 2.5, np.maximum(105 - local.z, scene.muscle + 8))
    canvas.paint(local, between, hu["fat"])
    canvas.paint(local, scene.cavity, hu["organ_fat"])


def _paint_couch(scene: Scene) -> None:
    """A curved plate under the patient, in scanner coordinates: it neither turns nor bends with the torso."""
    frame = scene.frame
    x, y, _ = frame.grid.axes
    x, y = x - frame.pose.offset[0], y - frame.pose.offset[1]
    lowest = frame.pose.scale[1] * 136 + scene.patient.variation("couch").uniform(0, 14)
    depth = np.abs(y[:, None] - (lowest - 0.0006 * x**2)) - 4
    plate = np.maximum(depth, np.abs(x) - 205).astype(np.float32)
    scene.canvas.tint(frame.everywhere, np.broadcast_to(plate, frame.grid.shape), scene.hu["couch"])


def paint_trunk_muscles(scene: Scene) -> None:
    """The long muscles beside the spine: erectors of the spine (autochthon) behind, iliopsoas in front."""
    frame, canvas, hu = scene.frame, scene.canvas, scene.hu
    for side, name in ((-1, "right"), (1, "left")):
        vary = scene.patient.variation(f"long muscles {name}")
        heights = np.array([-200, -120, -40, 40, 120, 200, 300.0])
        behind = np.array([38, 46, 45, 41, 38, 36, 34])
        width = vary.sizes(np.ones(1), 0.12)[0]
        points = np.column_stack([np.full(7, side * 31.0), spine_y(heights) + behind, heights])
        radii = width * np.array([20, 23, 23, 21, 18, 16, 14])
        local, distance = tube(frame, points, radii, 8)
        # The skin over the back is flat.
        distance = np.maximum(distance, scene.muscle[local.slices] - 9)
        canvas.paint(local, distance, hu["muscle"], f"autochthon_{name}")
        psoas = curve(
            [(side * 22, 42, 8), (side * 38, 36, -60), (side * 50, 34, -125), (side * 66, 8, -200)],
            width * np.array([6, 15, 21, 21]),
            15,
        )
        canvas.paint(*tube(frame, *psoas, 8), hu["muscle"], f"iliopsoas_{name}")
