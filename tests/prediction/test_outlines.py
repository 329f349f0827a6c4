"""The outlines of masks: read by other rules than those they were made by, they enclose the mask's pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from matplotlib.path import Path as Polygon
from scipy import ndimage

from pipeline_lib.prediction.dicom.outlines import outlines


def inside(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """bool H W: pixels whose centres lie in a closed polygon, as matplotlib decides it."""
    rows, columns = np.indices(shape)
    closed = np.concatenate([polygon, polygon[:1]])
    return Polygon(closed).contains_points(np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(shape)


def area(polygon: np.ndarray) -> float:
    """Pixels, by the sum over edges."""
    total = 0.0
    for (x, y), (next_x, next_y) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        total += x * next_y - next_x * y
    return abs(total) / 2


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
@settings(max_examples=150, deadline=None)
def test_each_part_has_one_polygon_that_encloses_just_its_pixels(mask):
    parts, count = ndimage.label(mask)
    polygons = outlines(mask)
    assert len(polygons) == count
    wanted = {parts[parts == number].size: [] for number in range(1, count + 1)}
    for number in range(1, count + 1):
        wanted[(parts == number).sum()].append(parts == number)
    for polygon in polygons:
        pixels = inside(polygon, mask.shape)
        assert area(polygon) == pixels.sum()
        assert any(np.array_equal(pixels, part) for part in wanted[pixels.sum()])


def test_edges_run_along_pixels_and_only_corners_are_kept():
    mask = np.zeros((6, 7), bool)
    mask[1:4, 2:6] = True
    (polygon,) = outlines(mask)
    assert sorted(map(tuple, polygon.tolist())) == [(1.5, 0.5), (1.5, 3.5), (5.5, 0.5), (5.5, 3.5)]


@pytest.mark.parametrize(
    ("holes", "length"),
    [
        # Around the rectangle and a hole of one pixel, and along a channel of two pixels twice.
        (1, 20 + 4 + 2 * 2),
        # Channels of the other holes end at the hole to their left, after three pixels.
        (3, 36 + 3 * 4 + 2 * (2 + 3 + 3)),
    ],
)
def test_a_hole_is_joined_by_the_shortest_channel_to_the_left(holes, length):
    mask = np.ones((5, 4 * holes + 1), bool)
    mask[2, 2::4] = False
    (polygon,) = outlines(mask)
    assert np.abs(polygon - np.roll(polygon, 1, axis=0)).sum() == length
    assert np.array_equal(inside(polygon, mask.shape), mask)


def test_an_empty_mask_has_no_outline():
    assert outlines(np.zeros((3, 4), bool)) == []
