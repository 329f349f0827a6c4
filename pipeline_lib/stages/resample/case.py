"""One raw case becomes a volume: canonical orientation, spacing and window, with its labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...datasets.hounsfield import unit_fault
from ...datasets.readers import RawCase, read_case
from ...geometry import Geometry
from ...label_bits import add_mask, plane_and_bit, roi_mask, rois_of_planes
from ...progress import say
from ...volumes.names import IMAGE, LABELS, RECORD
from ...volumes.preparation import body_box, foreground
from ...volumes.record import CaseRecord, Voxel, write_record
from ...volumes.resampling import LEAST_HU, image_volume, mask_volume
from ...volumes.store import BELOW_WINDOW, write_below_window, write_image, write_labels
from .settings import CaseSettings

_DIGEST_BYTES = 16


def resample_case(settings: CaseSettings, raw_folder: Path, volume: Path) -> None:
    """Write the case's volume into the folder `volume`, its record last; UserError of a raw file."""
    # An older record would make a whole volume of one that is half written.
    (volume / RECORD).unlink(missing_ok=True)
    raw = read_case(
        settings.layout,
        raw_folder / settings.root,
        settings.case,
        settings.targets,
        settings.labelling,
    )
    for note in raw.notes:
        say(f"{raw.files.image}: note: {note}")
    if fault := unit_fault(sitk.GetArrayViewFromImage(raw.image)):
        wrong, remedy = fault
        say(f"warning: {raw.files.image}: {wrong}; volumes.window_hu is in HU: {remedy}, or list the case under `skip`")
    original = Geometry.from_image(raw.image)
    grid = original.canonical().at_spacing(settings.volumes.spacing_mm)
    window = settings.volumes.window_hu
    hu = image_volume(raw.image, grid, (min(window[0], LEAST_HU), window[1]))
    # Pictures alone need it: a volume of an earlier version that lacks it is whole.
    write_below_window(volume / BELOW_WINDOW, hu, window)
    image = np.maximum(hu, np.int16(round(window[0])), out=hu)
    write_image(volume / IMAGE, image, window)
    targets = _Targets(settings, raw, original, grid)
    write_labels(volume / LABELS, targets.planes(), grid.shape, len(settings.targets))
    write_record(
        volume / RECORD,
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
            unknown=targets.unknown,
            made_by=settings.fingerprint,
        ),
    )


def _digest(image: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(image), digest_size=_DIGEST_BYTES).hexdigest()


class _Targets:
    """Label planes of a case, one after another, and what is counted in them on the way."""

    def __init__(self, settings: CaseSettings, raw: RawCase, original: Geometry, grid: Geometry) -> None:
        self._settings, self._raw, self._original, self._grid = settings, raw, original, grid
        self.voxels: dict[str, int] = {}
        self.foreground: dict[str, tuple[Voxel, ...]] = {}
        self.unknown: dict[str, int] = {}
        self.content = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def planes(self) -> Iterator[np.ndarray]:
        """uint8 D H W on the volume's grid, one after another; where voxels are unknown, as many planes of these."""
        yield from self._planes(self._draw)
        if any(self._raw.labels.unknown(target) is not None for target in self._raw.labelled):
            yield from self._planes(self._draw_unknown)

    def _planes(self, draw: Callable[[np.ndarray, int, str], None]) -> Iterator[np.ndarray]:
        targets = self._settings.targets
        for rois in rois_of_planes(len(targets)):
            plane = np.zeros(self._grid.shape, np.uint8)
            for roi in rois:
                if targets[roi] in self._raw.labelled:
                    draw(plane, plane_and_bit(roi)[1], targets[roi])
            self.content.update(plane)
            yield plane

    def _draw_unknown(self, plane: np.ndarray, bit: int, target: str) -> None:
        """Set the target's bit where its label depends on what the unknown voxels are: all of it, or none."""
        unknown = self._raw.labels.unknown(target)
        if unknown is None:
            return
        own = self._raw.labels.mask(target)
        box, mask = mask_volume(own | unknown, self._original, self._grid)
        add_mask(plane, bit, mask, box)
        for part in (target, *self._raw.labels.parts(target)):
            box, mask = mask_volume(self._raw.labels.mask(part), self._original, self._grid)
            plane[box] &= ~(mask.astype(np.uint8) << np.uint8(bit))
        if voxels := int(np.count_nonzero(roi_mask(plane, bit))):
            self.unknown[target] = voxels

    def _draw(self, plane: np.ndarray, bit: int, target: str) -> None:
        """Set the target's bit in the plane. Its parts are drawn too: interpolation could let one stick out."""
        boxes = []
        for part in (target, *self._raw.labels.parts(target)):
            box, mask = mask_volume(self._raw.labels.mask(part), self._original, self._grid)
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
