"""Measurements of a ROI, worked out by hand."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from pipeline_lib.geometry import Geometry, to_canonical
from pipeline_lib.prediction.statistics import as_json, measured, write_csv

WHOLE = (slice(None),) * 3


def test_a_box_is_measured():
    grid = Geometry(size=(10, 8, 6), spacing_mm=(1.0, 2.0, 5.0), origin_mm=(0, 0, 0))
    hu = np.zeros(grid.shape, np.int16)
    mask = np.zeros(grid.shape, bool)
    mask[2:4, 3:6, 0:4] = True
    hu[2, 3:6, 0:4], hu[3, 3:6, 0:4] = 40, 60
    row = measured("liver", WHOLE, mask, hu, grid)
    assert row.volume_ml == pytest.approx(2 * 3 * 4 * 10 / 1000)
    assert (row.mean_hu, row.std_hu) == (50, 10)
    assert row.extent_mm == (4.0, 6.0, 10.0)
    assert row.touches_border == ("right",)
    assert row.parts == 1
    # The same in a box of the image.
    assert measured("liver", (slice(1, 5), slice(2, 8), slice(0, 9)), mask[1:5, 2:8, 0:9], hu, grid) == row


@pytest.mark.parametrize(
    ("place", "sides"),
    [
        ((0, 3, 3), ("inferior",)),
        ((5, 3, 3), ("superior",)),
        ((3, 0, 3), ("anterior",)),
        ((3, 7, 3), ("posterior",)),
        ((3, 3, 0), ("right",)),
        ((3, 3, 9), ("left",)),
        ((3, 3, 3), ()),
        ((0, 0, 9), ("inferior", "anterior", "left")),
    ],
)
def test_sides_are_the_patients(place, sides):
    grid = Geometry(size=(10, 8, 6), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    mask = np.zeros(grid.shape, bool)
    mask[place] = True
    assert measured("roi", WHOLE, mask, np.zeros(grid.shape), grid).touches_border == sides


def test_sides_and_extents_follow_the_directions_of_a_turned_image():
    """Voxel axes run to superior, right and anterior."""
    direction = (0, -1, 0, 0, 0, -1, 1, 0, 0)
    grid = Geometry(size=(4, 5, 6), spacing_mm=(7.0, 1.0, 2.0), origin_mm=(0, 0, 0), direction=direction)
    mask = np.zeros(grid.shape, bool)
    mask[5, 0:2, 3] = True  # the most anterior, the most left two, the most superior
    hu = np.zeros(grid.shape)
    row = measured("roi", WHOLE, to_canonical(mask, grid), to_canonical(hu, grid), grid)
    assert row.extent_mm == (2.0, 2.0, 7.0)
    assert set(row.touches_border) == {"superior", "left", "anterior"}


def test_corners_join_parts():
    grid = Geometry(size=(5, 5, 5), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    mask = np.zeros(grid.shape, bool)
    mask[1, 1, 1] = mask[2, 2, 2] = mask[4, 4, 4] = True
    assert measured("roi", WHOLE, mask, np.zeros(grid.shape), grid).parts == 2


def test_an_absent_roi_has_no_numbers_but_its_volume(tmp_path):
    grid = Geometry(size=(3, 3, 3), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    nothing = (slice(0, 0),) * 3
    rows = [
        measured("spleen", nothing, np.zeros((0, 0, 0), bool), np.zeros(grid.shape), grid),
        replace(
            measured("liver", WHOLE, np.ones(grid.shape, bool), np.full(grid.shape, 7.26), grid),
            certainty=0.87654,
            expected_dice=0.7,
            look_at=False,
        ),
    ]
    assert as_json(rows)["spleen"] == {
        "volume_ml": 0.0,
        "mean_hu": None,
        "std_hu": None,
        "extent_mm": None,
        "touches_border": [],
        "parts": 0,
        "certainty": None,
        "expected_dice": None,
        "look_at": None,
        "agreement": None,
    }
    write_csv(tmp_path / "table.csv", [("case", rows)])
    with (tmp_path / "table.csv").open(newline="") as file:
        spleen, liver = csv.DictReader(file)
    assert (spleen["case"], spleen["volume_ml"], spleen["mean_hu"], spleen["extent_z_mm"]) == ("case", "0.0", "", "")
    assert (liver["volume_ml"], liver["mean_hu"], liver["extent_x_mm"], liver["parts"]) == ("0.027", "7.3", "3.0", "1")
    assert (spleen["certainty"], spleen["expected_dice"], spleen["look_at"]) == ("", "", "")
    assert (liver["certainty"], liver["expected_dice"], liver["look_at"]) == ("0.877", "0.7", "False")
