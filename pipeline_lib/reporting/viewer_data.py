"""Scored cases for the slice viewer: cropped to the body, downsampled if large, one byte per CT voxel, compressed."""

from __future__ import annotations

import base64
import gzip
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..geometry import Geometry
from ..volumes.resampling import image_volume
from .results import Results
from .scans import TRUTH, Scan

MOST_BYTES = 30_000_000
"""Size of all cases on a page, encoded; cases that do not fit are left out."""

MOST_VOXELS = 2_000_000
"""A larger case is shown at a coarser spacing."""

_NIFTI_UINT8, _NIFTI_RAS, _NIFTI_LABELS = 2, 1, 1002


def embedded_cases(
    results: Results, scans: Mapping[tuple[str, str], Scan], runs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Cases for the viewer, as JSON-able dicts, as many as fit.

    Median cases of each data set come first, then the worst ones, then the others, so that a page of many cases
    still shows every data set. `runs` has, for each method, the run that is shown.
    """
    chosen, used = [], 0
    for dataset, case in _by_interest(results):
        if (dataset, case) not in scans:
            continue
        encoded = _encoded(scans[dataset, case], runs)
        size = len(encoded["ct"]) + sum(len(layer) for layer in encoded["layers"].values())
        if used + size > MOST_BYTES:
            break
        used += size
        chosen.append(encoded | {"dice": _dice(results, runs, dataset, case)})
    return sorted(chosen, key=lambda each: (each["dataset"], each["case"]))


def _by_interest(results: Results) -> Iterator[tuple[str, str]]:
    means = results.dice_by_case().groupby(["dataset", "case"])["dice"].mean()
    queues = []
    for dataset, rows in means.groupby(level="dataset", sort=False):
        ordered = [case for _, case in rows.sort_values(ascending=False, kind="stable").index]
        median = ordered.pop(len(ordered) // 2)
        queues.append([(str(dataset), str(case)) for case in (median, *reversed(ordered))])
    for place in range(max((len(queue) for queue in queues), default=0)):
        yield from (queue[place] for queue in queues if place < len(queue))


def _encoded(scan: Scan, runs: Mapping[str, str]) -> dict[str, Any]:
    grid = _shown_grid(scan)
    window = scan.volume.record.window_hu
    volume = scan.volume
    image = image_volume(volume.record.grid.image(volume.read_image((0, 0, 0), volume.shape)), grid, window)
    step = (window[1] - window[0]) / 255
    as_bytes = np.rint((image - window[0]) / step).clip(0, 255).astype(np.uint8)
    layers = {TRUTH: scan.truth} | {method: scan.prediction(run) for method, run in runs.items()}
    width = 4 if len(scan.rois) <= 32 else 8
    return {
        "dataset": scan.files.dataset,
        "case": scan.files.case,
        "window": list(window),
        "ct": _compressed(nifti_bytes(as_bytes, grid, step, window[0])),
        "empty": _compressed(nifti_bytes(np.zeros_like(as_bytes), grid, labels=True)),
        "bytesPerVoxel": width,
        "layers": {
            # Little-endian unsigned integers of the width that JavaScript's typed arrays have.
            name: _compressed(layer.on(grid).bits.astype(f"<u{width}").tobytes())
            for name, layer in layers.items()
        },
        "known": [scan.rois.index(roi) for roi in scan.known_rois],
    }


def _shown_grid(scan: Scan) -> Geometry:
    """The box of the body at the volume's or the original spacing (the finer one), unless that is too many voxels."""
    record = scan.volume.record
    low, high = (np.array(corner[::-1], float) for corner in record.body)
    spacing = np.array(record.spacing_mm)
    body = Geometry(
        size=tuple(int(side) for side in high - low),
        spacing_mm=record.spacing_mm,
        origin_mm=tuple(float(part) for part in np.array(record.origin_mm) + low * spacing),
    )
    finest = np.minimum(spacing, record.original.canonical().spacing_mm)
    voxels = float(np.prod((high - low) * spacing / finest))
    return body.at_spacing(tuple(float(side) for side in finest * max(1.0, (voxels / MOST_VOXELS) ** (1 / 3))))


def nifti_bytes(
    array: np.ndarray, grid: Geometry, slope: float = 1.0, intercept: float = 0.0, labels: bool = False
) -> bytes:
    """A NIfTI-1 file (uint8, D H W in the canonical frame) whose values are slope · byte + intercept, or labels."""
    sx, sy, sz = grid.spacing_mm
    ox, oy, oz = grid.origin_mm
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *grid.size, 1, 1, 1, 1)
    struct.pack_into("<h", header, 68, _NIFTI_LABELS if labels else 0)
    struct.pack_into("<2h", header, 70, _NIFTI_UINT8, 8)
    struct.pack_into("<8f", header, 76, 1, sx, sy, sz, 1, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, slope, intercept)
    header[123] = 2  # millimetres
    struct.pack_into("<2h", header, 252, 0, _NIFTI_RAS)
    # NIfTI's frame is RAS: x and y have the opposite sense of LPS.
    struct.pack_into("<12f", header, 280, -sx, 0, 0, -ox, 0, -sy, 0, -oy, 0, 0, sz, oz)
    header[344:348] = b"n+1\0"
    return bytes(header) + array.tobytes()


def _dice(results: Results, runs: Mapping[str, str], dataset: str, case: str) -> dict[str, dict[str, float]]:
    """Method → ROI → Dice in % of one case, of the run that is shown."""
    table = (100 * results.dice_of_runs(runs, dataset, case)).round(1)
    return {method: table[method].dropna().to_dict() for method in table}


def _compressed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()
