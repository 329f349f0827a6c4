"""Great vessels, the portal and splenic vein, and the vessels inside the liver."""

from __future__ import annotations

import numpy as np

from .frame import Array
from .shapes import around_tubes, curve, tube, tubes
from .torso import Scene
from .trees import grow_tree

# Where the portal vein enters the liver, and where the hepatic veins leave it; mm.
_HILUM = (-36, -14, 30)
_OUTLET = (-22, 8, 80)


def paint_chest_vessels(scene: Scene) -> None:
    """Ascending aorta, arch and the trunk of the pulmonary artery."""
    vary = scene.patient.variation("chest vessels")
    frame, canvas, hu = scene.frame, scene.canvas, scene.hu
    lungs_artery = curve(
        vary.points([(22, -56, 150), (22, -46, 178), (2, -14, 196), (-26, -2, 192), (-44, 2, 184)], 2),
        [14, 14, 12, 10, 8], 12,
    )  # fmt: skip
    left = curve([(22, -44, 180), (36, -10, 194), (50, 8, 190)], [12, 11, 8], 12)
    local = around_tubes(frame, [lungs_artery, left], 8)
    canvas.paint(local, tubes(frame, local, [lungs_artery, left], 8), hu["heart_right"], "pulmonary_artery")
    upper_cava = curve([(-28, -24, 150), (-28, -22, 190), (-26, -22, 235), (-20, -18, 285)], [10, 10, 10, 9], 15)
    canvas.paint(*tube(frame, *upper_cava, 8), hu["vena_cava"])


def paint_great_vessels(scene: Scene) -> None:
    """The aorta on the left of the spine's front, the vena cava on its right, and their iliac branches."""
    vary = scene.patient.variation("great vessels")
    frame, canvas, hu = scene.frame, scene.canvas, scene.hu
    wide = vary.uniform(0.88, 1.2)
    aorta = curve(
        vary.points(
            [(-2, -30, 150), (-6, -34, 190), (4, -22, 228), (18, 10, 234), (24, 34, 205), (22, 36, 150), (16, 26, 90),
             (10, 14, 40), (8, 8, 0), (7, 6, -60), (4, 8, -118)], 2),
        wide * np.array([15, 15, 14, 12.5, 12, 11.5, 11, 10.5, 10, 9, 8.5]), 14,
    )  # fmt: skip
    canvas.paint(*tube(frame, *aorta, 8), hu["arteries"], "aorta")
    for root, end in (((2, -20, 234), (-24, -8, 300)), ((10, -8, 236), (14, -2, 305)), ((20, 4, 234), (34, 8, 290))):
        canvas.paint(*tube(frame, *curve([root, end], [6, 4.5], 40), 6), hu["arteries"])
    cava = curve(
        vary.points(
            [(-26, -18, 124), (-23, 4, 96), (-22, 10, 72), (-22, 10, 36), (-20, 10, 0), (-19, 12, -60),
             (-16, 16, -122)], 2),
        wide * np.array([13, 13, 12.5, 12, 11.5, 11, 11]), 14,
    )  # fmt: skip
    for side, name, reach in ((1, "left", 5), (-1, "right", -5)):
        artery = curve([aorta[0][-1], (side * 26 + reach, 12, -160), (side * 44, 24, -205)], [7, 6, 5.5], 14)
        canvas.paint(*tube(frame, *artery, 8), hu["arteries"], f"iliac_artery_{name}")
        vein = curve([cava[0][-1], (side * 24, 24, -165), (side * 44, 34, -205)], [9, 7.5, 7], 14)
        canvas.paint(*tube(frame, *vein, 8), hu["vena_cava"], f"iliac_vena_{name}")
    canvas.paint(*tube(frame, *cava, 8), hu["vena_cava"], "inferior_vena_cava")


def paint_portal_system(scene: Scene) -> None:
    """Portal vein to the liver's hilum, splenic vein behind the pancreas, mesenteric vein from below."""
    vary = scene.patient.variation("portal system")
    frame = scene.frame
    portal = curve(vary.points([(-4, -14, 0), (-20, -16, 16), _HILUM], 1.5), [7.5, 7.5, 7], 10)
    splenic = curve(
        [portal[0][0], *vary.points([(24, -10, 12), (50, 10, 22), (78, 28, 36)], 1.5)], [6, 5.5, 5, 4.5], 12
    )
    mesenteric = curve([portal[0][0], (-4, -20, -40), (0, -26, -90)], [6.5, 6, 5], 14)
    local = around_tubes(frame, [portal, splenic], 6)
    scene.canvas.paint(*tube(frame, *mesenteric, 6), scene.hu["portal_vein"])
    scene.canvas.paint(
        local, tubes(frame, local, [portal, splenic], 6), scene.hu["portal_vein"], "portal_vein_and_splenic_vein"
    )


def grow_liver_vessels(scene: Scene) -> None:
    """Lay out the portal branches and the hepatic veins of the liver; nothing is painted yet."""
    generator = scene.patient.generator("liver vessels")
    jitter = 5 * min(scene.patient.deformation, 1.5)

    def near(point: tuple[float, float, float]) -> np.ndarray:
        return np.array(point) + generator.normal(0, jitter, 3)

    hilum, outlet = np.array(_HILUM, float), np.array(_OUTLET, float)
    fork, turn = near((-66, -4, 38)), near((-14, -38, 48))
    portal = grow_tree(generator, hilum, fork, 7.0, 0, 0, 0, 11)
    for end in ((-106, -34, 52), (-110, 34, 40), (-100, 6, -4), (-78, 20, 78)):
        portal += grow_tree(generator, fork, near(end), 5.6, 1, 3, 34, 11)
    portal += grow_tree(generator, hilum, turn, 5.8, 1, 1, 26, 11)
    portal += grow_tree(generator, turn, near((36, -52, 58)), 4.8, 1, 2, 22, 11)
    veins = []
    for end in ((-118, 20, 28), (-74, -52, 34), (14, -54, 76), (-96, 44, 70)):
        veins += grow_tree(generator, outlet, near(end), 6.2, 1, 3, 30, 11)
    scene.branches["liver portal"], scene.branches["liver veins"] = portal, veins


def liver_vessel_distances(scene: Scene) -> dict[str, Array]:
    """Distance (mm, cut off at 25) to the liver's vessels over the liver's box, by the tissue that fills them."""
    local, _ = scene.shapes["liver"]
    return {
        tissue: tubes(scene.frame, local, scene.branches[tree], 25)
        for tissue, tree in (("portal_vein", "liver portal"), ("hepatic_vein", "liver veins"))
    }
