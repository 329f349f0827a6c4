"""The record of a volume that a benchmark makes without a stage."""

from __future__ import annotations

from pipeline_lib.geometry import Geometry
from pipeline_lib.volumes.record import CaseRecord


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
