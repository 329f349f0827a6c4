"""Tumours: where they sit, how large they are and what they look like.

Every tumour inside the liver is `liver_tumor`. The `hepatic_vessel_tumor` is the kind that grows along a main branch
of the portal or hepatic veins and encases it: the bright vessel runs on through the dark mass. It is a liver tumour
too, so the two ROIs overlap; all other liver tumours push the vessels aside and touch none. A vessel inside a tumour
stays `hepatic_vessel` and is not part of the tumour, as in the published labels, where both are values of one map.
Kidney, pancreas and colon include what grows out of them; a lung tumour stays within its lobe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas import Mask
from .frame import Array, Local
from .patient import Variation
from .placement import in_view, nearest_voxel, random_voxels, torso_position, visible_voxels
from .shapes import ellipsoid
from .torso import Scene
from .vessels import liver_vessel_distances


@dataclass(frozen=True)
class TumourKind:
    """Diameters (median and limits, mm), most of a kind in a patient, and its share of patients elsewhere."""

    median: float
    limits: tuple[float, float]
    most: int
    elsewhere: float


KINDS: dict[str, TumourKind] = {
    "liver_tumor": TumourKind(32, (14, 60), 4, 0.2),
    "hepatic_vessel_tumor": TumourKind(36, (22, 60), 2, 0.15),
    "kidney_tumor": TumourKind(38, (20, 60), 1, 0.15),
    "pancreas_tumor": TumourKind(32, (20, 50), 1, 0.12),
    "colon_cancer": TumourKind(36, (22, 54), 1, 0.12),
    "lung_tumor": TumourKind(28, (14, 56), 2, 0.2),
}
TUMOUR_ROIS = tuple(KINDS)
VESSEL_ROI = "hepatic_vessel"
# What a tumour may grow into, beside fat and its own organ.
_YIELDING = ("duodenum", "small_bowel", "stomach", "colon", "gallbladder")
_SHARE_IN_ITS_DATA_SET = 0.97


class Tumours:
    """The tumours of one patient, planted while the organs are painted.

    Parameters
    ----------
    usual: the ROI of the tumour that nearly every patient of the data set has.
    size: factor on all diameters.
    """

    def __init__(self, scene: Scene, usual: str | None, size: float) -> None:
        self.scene, self.size = scene, size
        shape = scene.frame.grid.shape
        self.masks: dict[str, Mask] = {kind: np.zeros(shape, bool) for kind in (*KINDS, VESSEL_ROI)}
        self.wanted = {
            kind: scene.patient.generator(f"has {kind}").random()
            < (_SHARE_IN_ITS_DATA_SET if kind == usual else traits.elsewhere)
            for kind, traits in KINDS.items()
        }

    def grow_in_liver(self) -> None:
        """Plant both kinds of liver tumour and paint the vessels around and through them."""
        scene = self.scene
        local, liver = scene.shapes["liver"]
        is_liver = scene.canvas.mask("liver")[local.slices]
        liver = np.where(is_liver, liver, np.maximum(liver, scene.frame.voxel))
        vessels = liver_vessel_distances(scene)
        apart = self._grow_apart(local, liver, np.minimum(*vessels.values()))
        along = self._grow_along(local, liver)
        in_vessel = np.zeros(is_liver.shape, bool)
        for tissue, distance in vessels.items():
            # A tumour that encases a vessel narrows it; any other pushes it aside.
            vessel = np.maximum(np.maximum(distance, liver + 1), 5 - apart)
            vessel = np.where(along < 0, vessel + 1.2, vessel)
            scene.canvas.tint(local, vessel, scene.hu[tissue])
            in_vessel |= vessel < 0
        self.masks[VESSEL_ROI][local.slices] = in_vessel
        self.masks["hepatic_vessel_tumor"][local.slices] = (along < 0) & ~in_vessel
        self.masks["liver_tumor"][local.slices] = (np.minimum(apart, along) < 0) & ~in_vessel

    def _grow_apart(self, local: Local, liver: Array, vessels: Array) -> Array:
        """Tumours away from the large vessels; distance to them over the liver's box."""
        vary = self.scene.patient.variation("liver tumours")
        whole = np.full(liver.shape, 60, np.float32)
        for radius in self._radii("liver_tumor", vary):
            room = (liver < -0.5 * radius) & visible_voxels(self.scene, local)
            places = random_voxels(vary, room, 8)
            if not len(places):
                continue
            free = [float(vessels[place]) for place in places]
            middle = torso_position(local, places[int(np.argmax(free))])
            tumour = self._lump(local, middle, radius, vary, "liver tumour")
            tumour = np.maximum(tumour, liver + 1)
            self._paint_liver_tumour(local, tumour, radius, vary)
            whole = np.minimum(whole, tumour)
        return whole

    def _grow_along(self, local: Local, liver: Array) -> Array:
        """Tumours around a main branch; distance to them over the liver's box."""
        vary = self.scene.patient.variation("tumours along vessels")
        scene = self.scene
        trees = (*scene.branches["liver portal"], *scene.branches["liver veins"])
        main = [(points, radii) for points, radii in trees if radii.max() > 4.2]
        whole = np.full(liver.shape, 60, np.float32)
        visible = visible_voxels(scene, local)
        for radius in self._radii("hepatic_vessel_tumor", vary):
            for _ in range(20):
                points, _ = main[vary.generator.integers(len(main))]
                middle = points[vary.generator.integers(len(points) // 3, len(points))]
                place = nearest_voxel(scene, local, middle)
                if place is not None and visible[place] and liver[place] < -0.4 * radius:
                    break
            else:
                continue
            tumour = self._lump(local, middle, radius, vary, "tumour along vessels")
            tumour = np.maximum(tumour, liver + 1)
            self._paint_liver_tumour(local, tumour, radius, vary)
            whole = np.minimum(whole, tumour)
        return whole

    def _paint_liver_tumour(self, local: Local, tumour: Array, radius: float, vary: Variation) -> None:
        """A dark mass with a darker core and, at times, a rim that takes up contrast."""
        hu = self.scene.hu
        tissue = self._tissue("liver_tumor", local, tumour, radius, vary)
        rim = vary.uniform(-0.4, 0.6)
        if rim > 0:
            tissue = tissue + rim * np.clip(1 - np.abs(tumour + 2) / 3, 0, 1) * (hu["liver"] - hu["liver_tumor"])
        self.scene.canvas.tint(local, tumour, tissue)

    def grow_in_kidney(self) -> None:
        """A mass that bulges out of the kidney's surface."""
        scene = self.scene
        vary = scene.patient.variation("kidney tumour")
        kidneys = [name for name in ("kidney_left", "kidney_right") if scene.canvas.mask(name).any()]
        for radius in self._radii("kidney_tumor", vary):
            if not kidneys:
                return
            name = kidneys[vary.generator.integers(len(kidneys))]
            local, kidney = scene.shapes[name]
            room = (np.abs(kidney + 0.25 * radius) < 5) & visible_voxels(scene, local)
            room &= scene.canvas.mask(name)[local.slices]
            for place in random_voxels(vary, room, 1):
                tumour = self._lump(local, torso_position(local, place), radius, vary, "kidney tumour")
                self._paint_growth("kidney_tumor", name, local, tumour, radius, vary)

    def grow_in_pancreas(self) -> None:
        """A mass that widens the pancreas, two times out of three in its head."""
        scene = self.scene
        vary = scene.patient.variation("pancreas tumour")
        points, _ = scene.branches["pancreas"][0]
        for radius in self._radii("pancreas_tumor", vary):
            in_head = vary.generator.random() < 0.65
            share = vary.generator.uniform(0.02, 0.35) if in_head else vary.generator.uniform(0.4, 0.95)
            middle = points[int(share * (len(points) - 1))]
            local = scene.frame.around(middle - 2 * radius, middle + 2 * radius)
            if in_view(scene, local, middle):
                tumour = self._lump(local, middle, radius, vary, "pancreas tumour")
                self._paint_growth("pancreas_tumor", "pancreas", local, tumour, radius, vary)

    def grow_in_colon(self) -> None:
        """A thick ring of the colon's wall that leaves a narrow way through."""
        scene = self.scene
        vary = scene.patient.variation("colon cancer")
        local, _ = scene.shapes["colon"]
        points, radii = scene.branches["colon"][0]
        # Where other organs press on the colon there is no room.
        room = scene.canvas.mask("colon")[local.slices] & visible_voxels(scene, local)
        places = [nearest_voxel(scene, local, point) for point in points]
        seen = [index for index, place in enumerate(places[2:-2], 2) if place is not None and room[place]]
        for radius in self._radii("colon_cancer", vary):
            if not seen:
                return
            index = seen[vary.generator.integers(len(seen))]
            around = radii[index] + 2.5
            along = points[index + 1] - points[index - 1]
            axes = np.linalg.qr(np.column_stack([along, np.eye(3)]))[0]
            ring = ellipsoid(local, points[index], (radius, around, around), axes, power=2.4)
            ring = ring + scene.rough(local, "colon cancer", 0.1 * radius)
            off = 0.25 * around * axes[:, 1]
            lumen = ellipsoid(local, points[index] + off, (radius * 2, 0.24 * around, 0.24 * around), axes)
            self._paint_growth("colon_cancer", "colon", local, np.maximum(ring, -lumen), radius, vary)

    def grow_in_lung(self) -> None:
        """Round masses with a rough border."""
        scene = self.scene
        vary = scene.patient.variation("lung tumour")
        for radius in self._radii("lung_tumor", vary):
            local, lung = scene.shapes[("lung_left", "lung_right")[vary.generator.integers(2)]]
            room = (lung < -0.7 * radius) & (lung > -40) & visible_voxels(scene, local)
            for place in random_voxels(vary, room, 1):
                tumour = self._lump(local, torso_position(local, place), radius, vary, "lung tumour")
                tumour = np.maximum(tumour, lung + 0.5)
                scene.canvas.tint(local, tumour, self._tissue("lung_tumor", local, tumour, radius, vary))
                self.masks["lung_tumor"][local.slices] |= tumour < 0

    def settle(self) -> None:
        """Take out of every tumour what was painted over it later."""
        canvas = self.scene.canvas
        hosts = {
            "liver_tumor": ("liver",),
            "hepatic_vessel_tumor": ("liver",),
            VESSEL_ROI: ("liver",),
            "kidney_tumor": ("kidney_left", "kidney_right"),
            "pancreas_tumor": ("pancreas",),
            "colon_cancer": ("colon",),
            "lung_tumor": tuple(name for name in canvas.names if name.startswith("lung_")),
        }
        for kind, names in hosts.items():
            self.masks[kind] &= canvas.any_of(names)

    def _radii(self, kind: str, vary: Variation) -> Sequence[float]:
        """Radii in mm of the patient's tumours of this kind, the largest first."""
        if not self.wanted[kind]:
            return ()
        traits = KINDS[kind]
        count = 1 + int(vary.generator.integers(traits.most))
        diameters = traits.median * np.exp(0.35 * vary.generator.normal(size=count))
        return sorted(self.size * np.clip(diameters, *traits.limits) / 2, reverse=True)

    def _lump(self, local: Local, middle: np.ndarray, radius: float, vary: Variation, name: str) -> Array:
        """Distance to an uneven, rounded mass over the box."""
        radii = radius * np.exp(vary.generator.normal(0, 0.12, size=3))
        tilt = vary.tilt(vary.generator.uniform(-90, 90, size=3), 0)
        return ellipsoid(local, middle, radii, tilt) + self.scene.rough(local, name, 0.12 * radius)

    def _tissue(self, kind: str, local: Local, tumour: Array, radius: float, vary: Variation) -> Array:
        """HU of a tumour, uneven and darker in the core of large ones (necrosis)."""
        usual = self.scene.hu[kind] + vary.generator.normal(0, 6)
        core = np.clip((-tumour - 0.4 * radius) / (0.4 * radius), 0, 1) * np.clip((radius - 10) / 15, 0, 1)
        return usual - vary.uniform(4, 26) * core + 4 * self.scene.rough(local, f"inside {kind}", 1.0)

    def _paint_growth(self, kind: str, organ: str, local: Local, tumour: Array, radius: float, vary: Variation) -> None:
        """Paint a tumour that may grow out of its organ into fat and bowel, but not into bone, muscle or vessels."""
        canvas = self.scene.canvas
        free = canvas.any_of(("", organ, *_YIELDING))[local.slices]
        tumour = np.maximum(tumour, self.scene.cavity[local.slices] + 1)
        tumour = np.where(free, tumour, np.maximum(tumour, self.scene.frame.voxel))
        canvas.paint(local, tumour, self._tissue(kind, local, tumour, radius, vary), organ)
        self.masks[kind][local.slices] |= tumour < 0
