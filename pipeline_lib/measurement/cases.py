"""Made-up cases for measurements: volumes of noise, with labels and existence scores of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.crops import TrainingCase
from ..geometry import Geometry
from ..label_bits import pack
from ..volumes.record import CaseRecord
from ..volumes.store import write_volume
from .sizes import Shape

WINDOW = (-325.0, 325.0)
POOL = 16
_CASES = 8


def write_cases(folder: Path, patch: Shape, rois: int) -> tuple[TrainingCase, ...]:
    """Volumes of noise, half again as long as the patch; each labels two ROIs, boxes, and has scores of all kinds."""
    found = []
    names = tuple(f"roi_{k}" for k in range(rois))
    shape = tuple(side * 3 // 2 for side in patch)
    for number in range(_CASES):
        random = np.random.default_rng(number)
        masks = np.zeros((rois, *shape), bool)
        for mask in masks:
            corner = random.integers(0, [side // 2 for side in shape])
            mask[tuple(slice(at, at + side // 3) for at, side in zip(corner, shape, strict=True))] = True
        labelled = np.isin(np.arange(rois), [number % rois, (number + 1) % rois])
        geometry = Geometry(size=shape[::-1], spacing_mm=(1.5, 0.8, 0.8), origin_mm=(0, 0, 0))
        record = record_of(geometry, geometry, names, tuple(np.array(names)[labelled].tolist()), WINDOW)
        case = f"case_{number}"
        image = random.normal(0, 60, shape).clip(*WINDOW).astype(np.int16)
        write_volume(folder / case, image, pack(masks & labelled[:, None, None, None]), record)
        pool = random.integers(0, [side // 3 for side in patch], (POOL, 3))
        scores = random.random((POOL, rois), dtype=np.float32)
        found.append(TrainingCase("made_up", case, folder / case, labelled, pool, scores))
    return tuple(found)


def record_of(
    grid: Geometry,
    original: Geometry,
    targets: tuple[str, ...],
    labelled: tuple[str, ...],
    window_hu: tuple[float, float],
) -> CaseRecord:
    """A record that tells the grids and names of the targets; what patches are drawn from is empty."""
    return CaseRecord(
        dataset="benchmark",
        case="case",
        targets=targets,
        labelled=labelled,
        shape=grid.shape,
        spacing_mm=grid.spacing_mm,
        origin_mm=grid.origin_mm,
        original=original,
        window_hu=window_hu,
        voxels={},
        foreground={},
        body=((0, 0, 0), grid.shape),
    )
