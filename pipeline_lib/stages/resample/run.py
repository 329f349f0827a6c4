"""Bring one raw case into canonical orientation, spacing and window, with its labels.

    python -m pipeline_lib.stages.resample.run --settings SETTINGS --manifest resources/raw/DATASET/manifest.json \\
        --image results/volumes/DATASET/CASE/image.b2nd --labels results/volumes/DATASET/CASE/labels.b2nd \\
        --record results/volumes/DATASET/CASE/case.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from ...datasets.hounsfield import unit_fault
from ...datasets.readers import RawCase, read_case
from ...geometry import Geometry
from ...label_bits import add_mask, plane_and_bit, roi_mask, rois_of_planes
from ...progress import say
from ...volumes.preparation import body_box, foreground
from ...volumes.record import CaseRecord, Voxel, write_record
from ...volumes.resampling import image_volume, mask_volume
from ...volumes.store import write_image, write_labels
from ..command import stage_command
from .settings import Inputs, Outputs, Settings

_DIGEST_BYTES = 16


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    raw = read_case(
        settings.layout,
        inputs.manifest.parent / settings.root,
        settings.case,
        settings.labels,
        settings.targets,
        settings.ignored_labels,
    )
    for note in raw.notes:
        say(f"{raw.files.image}: note: {note}")
    if fault := unit_fault(sitk.GetArrayViewFromImage(raw.image)):
        wrong, remedy = fault
        say(f"warning: {raw.files.image}: {wrong}; volumes.window_hu is in HU: {remedy}, or list the case under `skip`")
    original = Geometry.from_image(raw.image)
    grid = original.canonical().at_spacing(settings.volumes.spacing_mm)
    window = settings.volumes.window_hu
    image = image_volume(raw.image, grid, window)
    write_image(outputs.image, image, window)
    targets = _Targets(settings, raw, original, grid)
    write_labels(outputs.labels, targets.planes(), grid.shape, len(settings.targets))
    write_record(
        outputs.record,
        CaseRecord(
            dataset=settings.dataset,
            case=settings.case,
            targets=settings.targets,
            labelled=raw.labelled,
            shape=grid.shape,
            spacing_mm=grid.spacing_mm,
            origin_mm=grid.origin_mm,
            original=original,
            window_hu=window,
            voxels=targets.voxels,
            foreground=targets.foreground,
            body=body_box(raw.image, grid),
            placement=raw.placement,
            notes=raw.notes,
            content=_digest(image) + targets.content.hexdigest(),
        ),
    )


def _digest(image: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=_DIGEST_BYTES).hexdigest()


class _Targets:
    """Label planes of a case, one after another, and what is counted in them on the way."""

    def __init__(self, settings: Settings, raw: RawCase, original: Geometry, grid: Geometry) -> None:
        self._settings, self._raw, self._original, self._grid = settings, raw, original, grid
        self.voxels: dict[str, int] = {}
        self.foreground: dict[str, tuple[Voxel, ...]] = {}
        self.content = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def planes(self) -> Iterator[np.ndarray]:
        """uint8 D H W on the volume's grid, one after another."""
        targets = self._settings.targets
        for rois in rois_of_planes(len(targets)):
            plane = np.zeros(self._grid.shape, np.uint8)
            for roi in rois:
                if targets[roi] in self._raw.labelled:
                    self._draw(plane, plane_and_bit(roi)[1], targets[roi])
            self.content.update(plane)
            yield plane

    def _draw(self, plane: np.ndarray, bit: int, target: str) -> None:
        """Set the target's bit in the plane. Its parts are drawn too: interpolation could let one stick out."""
        boxes = []
        for part in (target, *self._raw.parts(target)):
            box, mask = mask_volume(self._raw.mask(part), self._original, self._grid)
            add_mask(plane, bit, mask, box)
            if mask.size:
                boxes.append(box)
        if not boxes:
            self.voxels[target] = 0
            return
        hull = tuple(
            slice(min(s.start for s in sides), max(s.stop for s in sides)) for sides in zip(*boxes, strict=True)
        )
        corner = tuple(side.start for side in hull)
        key = (self._settings.dataset, self._settings.case, target)
        self.voxels[target], voxels = foreground(roi_mask(plane[hull], bit), corner, *key)
        if voxels:
            self.foreground[target] = voxels


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
