"""One phantom: the image with every structure and ROI that it shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ...config.datasets import PhantomSource
from ...config.phantom import Phantom
from . import abdomen, bowel, skeleton, thorax, torso, vessels
from .appearance import AIR_HU, MIXED_PHASES, Phase, add_noise, add_texture, tissue_hu
from .canvas import Mask
from .frame import Frame, Grid
from .patient import Patient
from .tumours import Tumours
from .views import choose_view

ORGAN_ROIS: dict[str, tuple[str, ...]] = {
    "liver": ("liver",),
    "kidney": ("kidney_left", "kidney_right"),
    "pancreas": ("pancreas",),
    "spleen": ("spleen",),
}


@dataclass(frozen=True)
class PhantomCase:
    """Image (int16 HU, D H W, LPS), its structure map (index into `names`) and the overlapping masks (D H W)."""

    grid: Grid
    hu: np.ndarray
    structure: np.ndarray
    names: tuple[str, ...]
    tumours: dict[str, Mask]

    def structure_mask(self, name: str) -> Mask:
        """Voxels of one structure; of one that the phantom lacks, none."""
        if name not in self.names:
            return np.zeros(self.structure.shape, bool)
        return self.structure == self.names.index(name)

    def roi_mask(self, roi: str) -> Mask:
        """Voxels of one ROI, D H W: an organ with its tumours, a tumour, the liver's vessels, or any structure."""
        if roi in self.tumours:
            return self.tumours[roi]
        if roi in ORGAN_ROIS:
            parts = [self.structure_mask(name) for name in ORGAN_ROIS[roi]]
            return np.logical_or.reduce(parts)
        return self.structure_mask(roi)

    def image(self, array: np.ndarray) -> sitk.Image:
        """`array` (D H W) as an image on the case's grid."""
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(self.grid.spacing)
        image.SetOrigin(self.grid.origin)
        return image


def make_case(source: PhantomSource, phantom: Phantom, key: tuple[str | int, ...], kept: frozenset[str]) -> PhantomCase:
    """Make the case of a key (seed, data set, case).

    Parameters
    ----------
    kept: organs that are never absent, because the data set is about them.
    """
    patient = Patient(key, phantom.deformation)
    view = choose_view(patient, source, phantom.body_scale)
    frame = Frame(view.grid, view.pose, patient.displacement(view.grid, view.pose))
    hu = tissue_hu(patient.generator("tissue"), _phase(patient, source), phantom.contrast)
    scene = torso.make_scene(frame, patient, hu, AIR_HU)
    tumours = Tumours(scene, source.tumour, phantom.tumour_size)
    _paint(scene, tumours, _absent(patient, phantom.absent_organ, kept))
    canvas = scene.canvas
    add_texture(patient.generator("texture"), canvas.hu, view.grid)
    add_noise(patient.generator("noise"), canvas.hu, phantom.noise_hu)
    return PhantomCase(
        grid=view.grid,
        hu=np.clip(np.rint(canvas.hu), -1024, 3071).astype(np.int16),
        structure=canvas.structure,
        names=tuple(canvas.names),
        tumours=tumours.masks,
    )


def _paint(scene: torso.Scene, tumours: Tumours, absent: frozenset[str]) -> None:
    """All anatomy, back to front: what comes later covers what lies there already."""
    torso.paint_trunk(scene)
    thorax.paint_lungs_and_airways(scene)
    tumours.grow_in_lung()
    skeleton.paint_skeleton(scene)
    torso.paint_trunk_muscles(scene)
    vessels.paint_chest_vessels(scene)
    thorax.paint_heart(scene)
    bowel.paint_small_bowel(scene)
    abdomen.paint_liver(scene)
    bowel.paint_colon(scene)
    abdomen.paint_stomach(scene)
    bowel.paint_duodenum(scene)
    abdomen.paint_gallbladder(scene)
    if "spleen" not in absent:
        abdomen.paint_spleen(scene)
    abdomen.paint_kidneys(scene, absent)
    vessels.grow_liver_vessels(scene)
    tumours.grow_in_liver()
    tumours.grow_in_kidney()
    abdomen.paint_pancreas(scene)
    tumours.grow_in_pancreas()
    tumours.grow_in_colon()
    vessels.paint_great_vessels(scene)
    vessels.paint_portal_system(scene)
    tumours.settle()


def _phase(patient: Patient, source: PhantomSource) -> Phase:
    if source.phase != "mixed":
        return source.phase
    return str(patient.generator("phase").choice(list(MIXED_PHASES), p=list(MIXED_PHASES.values())))


def _absent(patient: Patient, probability: float, kept: frozenset[str]) -> frozenset[str]:
    """Organs that this patient lost; never both kidneys."""
    generator = patient.generator("absent organs")
    draws = {name: generator.random() < probability for name in ("spleen", *abdomen.KIDNEYS)}
    absent = {name for name, gone in draws.items() if gone and name not in kept}
    if set(abdomen.KIDNEYS) <= absent:
        absent.remove(abdomen.KIDNEYS[int(generator.integers(2))])
    return frozenset(absent)
