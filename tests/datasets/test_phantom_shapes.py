"""The phantom's geometry against plain NumPy: coordinates, boxes, fields and implicit shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.datasets.phantom.frame import Frame, Grid, Pose, smooth_field
from pipeline_lib.datasets.phantom.shapes import curve, ellipsoid, rotation_matrix, smooth_cut, smooth_union, tube

GRID = Grid(shape=(9, 11, 13), spacing=(7.0, 6.0, 9.0), origin=(-40.0, -30.0, 15.0))


def make_frame(tilt=(5.0, -4.0, 8.0), scale=(1.1, 0.9, 1.2), seed=0, size=3.0):
    pose = Pose(rotation_matrix(tilt), np.array(scale), np.array([4.0, -3.0, 50.0]))
    displacement = size * np.random.default_rng(seed).uniform(-1, 1, (3, *GRID.shape)).astype(np.float32)
    return Frame(GRID, pose, displacement), displacement


def test_coordinates_invert_the_pose():
    frame, displacement = make_frame()
    for d, h, w in ((0, 0, 0), (8, 3, 12), (4, 10, 6)):
        position = np.array(GRID.origin) + np.array(GRID.spacing) * (w, h, d)
        torso = np.linalg.inv(frame.pose.rotation * frame.pose.scale) @ (position - frame.pose.offset)
        found = np.array([frame.x[d, h, w], frame.y[d, h, w], frame.z[d, h, w]])
        np.testing.assert_allclose(found, torso + displacement[:, d, h, w], atol=1e-3)


@given(
    low=st.tuples(*[st.floats(-60, 60)] * 3),
    side=st.tuples(*[st.floats(0, 40)] * 3),
    tilt=st.tuples(*[st.floats(-25, 25)] * 3),
)
def test_box_holds_every_voxel_of_its_range(low, side, tilt):
    frame, _ = make_frame(tilt)
    low, high = np.array(low), np.array(low) + np.array(side)
    wanted = np.ones(GRID.shape, bool)
    for values, bottom, top in zip((frame.x, frame.y, frame.z), low, high, strict=True):
        wanted &= (values >= bottom) & (values <= top)
    local = frame.around(low, high)
    covered = np.zeros(GRID.shape, bool)
    covered[local.slices] = True
    assert not (wanted & ~covered).any()
    assert local.x.shape == frame.x[local.slices].shape


def test_smooth_field_has_unit_deviation_and_few_short_waves():
    grid = Grid((40, 40, 40), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    field = smooth_field(np.random.default_rng(1), grid, (60, 120))
    assert 0.6 < field.std() < 1.5
    # Over one voxel a wave of 60 mm or more changes by at most 2π · 5 / 60 of its amplitude.
    assert np.abs(np.diff(field, axis=0)).mean() < 0.5 * field.std()


@given(
    radii=st.tuples(*[st.floats(8, 40)] * 3),
    tilt=st.tuples(*[st.floats(-90, 90)] * 3),
    centre=st.tuples(*[st.floats(-20, 20)] * 3),
)
def test_ellipsoid_is_negative_exactly_inside(radii, tilt, centre):
    frame, _ = make_frame()
    axes = rotation_matrix(tilt)
    local = frame.everywhere
    points = np.stack([local.x, local.y, local.z], axis=-1).astype(np.float64) - centre
    norm = np.linalg.norm((points @ axes) / radii, axis=-1)
    clear = np.abs(norm - 1) > 1e-4
    distance = ellipsoid(local, centre, radii, axes)
    np.testing.assert_array_equal((distance < 0)[clear], (norm < 1)[clear])


def test_sphere_distance_is_exact():
    frame, _ = make_frame()
    local = frame.everywhere
    apart = np.sqrt((local.x - 3) ** 2 + (local.y + 5) ** 2 + (local.z - 2) ** 2)
    np.testing.assert_allclose(ellipsoid(local, (3, -5, 2), (20, 20, 20)), apart - 20, atol=1e-3)


def test_tube_is_the_distance_to_its_segments():
    frame, _ = make_frame()
    points = np.array([[-30.0, -10, -20], [0, 5, 0], [25, 0, 18]])
    radii = np.array([4.0, 8, 3])
    local, distance = tube(frame, points, radii, margin=6)
    expected = np.full(GRID.shape, 6.0)
    for index in np.ndindex(GRID.shape):
        here = np.array([frame.x[index], frame.y[index], frame.z[index]], np.float64)
        for start, end, first, last in zip(points, points[1:], radii, radii[1:], strict=False):
            t = np.clip((here - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
            apart = np.linalg.norm(here - start - t * (end - start)) - (first + t * (last - first))
            expected[index] = min(expected[index], apart)
    outside = np.ones(GRID.shape, bool)
    outside[local.slices] = False
    assert (expected[outside] >= 6).all()
    np.testing.assert_allclose(distance, expected[local.slices], atol=1e-3)


def test_curve_passes_through_its_points():
    points, radii = [(0, 0, 0), (20, 5, 0), (30, 30, 10), (0, 40, 20)], [3, 5, 4, 2]
    line, width = curve(points, radii, step=4)
    for point, radius in zip(points, radii, strict=True):
        nearest = np.linalg.norm(line - np.array(point), axis=1)
        assert nearest.min() < 1e-9
        assert width[nearest.argmin()] == pytest.approx(radius)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).max() < 8


@given(first=st.floats(-30, 30), second=st.floats(-30, 30))
def test_smooth_union_and_cut_are_the_sharp_ones_away_from_the_seam(first, second):
    union = smooth_union(np.float32(first), np.float32(second), 5)
    cut = smooth_cut(np.float32(first), np.float32(second), 5)
    assert min(first, second) - 5 / 4 - 1e-3 <= union <= min(first, second) + 1e-3
    assert max(first, second) - 1e-3 <= cut <= max(first, second) + 5 / 4 + 1e-3
    if abs(first - second) >= 5:
        assert union == pytest.approx(min(first, second), abs=1e-3)
        assert cut == pytest.approx(max(first, second), abs=1e-3)
