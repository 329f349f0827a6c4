"""Bring one raw case into canonical orientation, spacing and window, with one bit for each target.

    python -m pipeline_lib.stages.volumes --settings SETTINGS --manifest resources/raw/DATASET/manifest.json \\
        --image results/volumes/DATASET/CASE/image.b2nd --labels results/volumes/DATASET/CASE/labels.b2nd \\
        --record results/volumes/DATASET/CASE/case.json
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..config.settings import VolumeSettings
from ..datasets.readers import RawCase, read_case
from ..volumes.bits import plane_count
from ..volumes.geometry import Geometry
from ..volumes.preparation import body_box, foreground
from ..volumes.record import CaseRecord, Voxel, write_record
from ..volumes.resampling import image_volume, label_volume
from ..volumes.store import write_image, write_labels
from .command import stage_command


@dataclass(frozen=True)
class Inputs:
    """The raw data set's manifest; the raw folder is the one it lies in."""

    manifest: Path


@dataclass(frozen=True)
class Outputs:
    """The three files of a volume."""

    image: Path
    labels: Path
    record: Path


def run(settings: VolumeSettings, inputs: Inputs, outputs: Outputs) -> None:
    raw = read_case(
        settings.layout,
        inputs.manifest.parent / settings.root,
        settings.case,
        settings.labels,
        settings.targets,
        settings.ignored_labels,
    )
    original = Geometry.of(raw.image)
    grid = original.canonical().at_spacing(settings.volumes.spacing_mm)
    write_image(outputs.image, image_volume(raw.image, grid, settings.volumes.window_hu))
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
            window_hu=settings.volumes.window_hu,
            voxels=targets.voxels,
            foreground=targets.foreground,
            body=body_box(raw.image, grid),
        ),
    )


class _Targets:
    """Label planes of a case, one after another, and what is counted in them on the way."""

    def __init__(self, settings: VolumeSettings, raw: RawCase, original: Geometry, grid: Geometry) -> None:
        self._settings, self._raw, self._original, self._grid = settings, raw, original, grid
        self.voxels: dict[str, int] = {}
        self.foreground: dict[str, tuple[Voxel, ...]] = {}

    def planes(self) -> Iterator[np.ndarray]:
        """uint8 D H W on the volume's grid, each with the bits of eight targets."""
        targets = self._settings.targets
        masks = self._raw.masks()
        place = {target: number for number, target in enumerate(targets)}
        pending = next(masks, None)
        for plane in range(plane_count(len(targets))):
            bits = np.zeros(self._original.shape, np.uint8)
            present = []
            while pending is not None and place[pending[0]] // 8 == plane:
                target, mask = pending
                bits |= mask.astype(np.uint8) << (place[target] % 8)
                present.append(target)
                pending = next(masks, None)
            volume = label_volume(self._original.image(bits), self._grid)
            for target in present:
                self._count(target, volume >> (place[target] % 8) & 1 == 1)
            yield volume

    def _count(self, target: str, mask: np.ndarray) -> None:
        count, voxels = foreground(mask, self._settings.dataset, self._settings.case, target)
        self.voxels[target] = count
        if count:
            self.foreground[target] = voxels


if __name__ == "__main__":
    stage_command(run, VolumeSettings, Inputs, Outputs)
