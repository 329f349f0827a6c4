"""One value per voxel: lesions over organs, else the more probable ROI."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline_lib.geometry import Geometry, from_canonical
from pipeline_lib.prediction.label_map import LabelMap

ROIS = ("liver", "spleen", "liver_tumor", "lung_nodule")
WHOLE = (slice(None),) * 3


def naive(column: dict[str, int]) -> int:
    """The value of a voxel with these probabilities (0 … 255), by the rule's own words."""
    claims = {roi: value for roi, value in column.items() if value >= 128}
    lesions = {roi: value for roi, value in claims.items() if roi in ("liver_tumor", "lung_nodule")}
    standing = lesions or claims
    if not standing:
        return 0
    most = max(standing.values())
    return 1 + ROIS.index(next(roi for roi in ROIS if standing.get(roi) == most))


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (0, 0, -1, 1, 0, 0, 0, -1, 0)])
def test_every_voxel_follows_the_rule(direction):
    rng = np.random.default_rng(0)
    grid = Geometry(size=(5, 6, 7), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0), direction=direction)
    labels = LabelMap(grid, ROIS)
    shape = grid.canonical().shape
    probabilities = {roi: rng.choice([0, 127, 128, 129, 130, 200, 255], shape).astype(np.uint8) for roi in ROIS}
    for roi in ROIS:
        labels.add(roi, WHOLE, probabilities[roi])
    columns = np.stack(list(probabilities.values()), -1).reshape(-1, len(ROIS))
    expected = np.array([naive(dict(zip(ROIS, column, strict=True))) for column in columns]).reshape(shape)
    assert np.array_equal(labels.values, from_canonical(expected, grid))


def test_what_the_map_cannot_show_is_counted():
    grid = Geometry(size=(4, 1, 1), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    labels = LabelMap(grid, ROIS)
    for roi, row in {"liver": [255, 255, 0, 0], "spleen": [200, 0, 0, 0], "liver_tumor": [0, 255, 255, 0]}.items():
        labels.add(roi, WHOLE, np.array(row, np.uint8).reshape(1, 1, 4))
    assert labels.values.ravel().tolist() == [1, 3, 3, 0]
    # The tumour in the liver is not a contest.
    assert labels.contested == 1


def test_a_box_is_added_in_its_place():
    grid = Geometry(size=(3, 3, 3), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    labels = LabelMap(grid, ROIS)
    labels.add("spleen", (slice(1, 2), slice(0, 2), slice(2, 3)), np.full((1, 2, 1), 255, np.uint8))
    assert np.argwhere(labels.values).tolist() == [[1, 0, 2], [1, 1, 2]]


def test_more_rois_than_a_byte_counts_get_two_bytes():
    grid = Geometry(size=(2, 1, 1), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    rois = tuple(f"roi_{number}" for number in range(300))
    labels = LabelMap(grid, rois)
    labels.add("roi_299", WHOLE, np.array([0, 255], np.uint8).reshape(1, 1, 2))
    assert labels.values.ravel().tolist() == [0, 300]
