"""Surface distances against pairwise distances of all surface points, in plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.scoring.surface import bounding_box, surface_scores

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def random_mask(seed: int, shape=(6, 7, 8), share=0.3) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


def edge_points_mm(mask: np.ndarray, spacing_mm) -> np.ndarray:
    """Positions (z, y, x) of voxels that touch the outside with a face."""
    padded = np.pad(mask, 1)
    inner = np.ones_like(mask)
    for axis in range(3):
        for step in (-1, 1):
            inner &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere(mask & ~inner) * np.array(spacing_mm)[::-1]


def nearest_mm(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.sqrt(((points[:, None] - others[None]) ** 2).sum(-1)).min(axis=1)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([(1.0, 1.0, 1.0), (0.8, 0.7, 5.0), (2.0, 1.0, 0.5)]))
def test_hd95_is_the_larger_of_both_directed_percentiles(seed, spacing_mm):
    prediction, truth = random_mask(seed), random_mask(seed + 1, share=0.15)
    prediction[2, 3, 4] = truth[4, 3, 2] = True
    first, second = edge_points_mm(prediction, spacing_mm), edge_points_mm(truth, spacing_mm)
    expected = max(np.percentile(nearest_mm(first, second), 95), np.percentile(nearest_mm(second, first), 95))
    assert surface_scores(prediction, truth, spacing_mm, 1.0)[1] == pytest.approx(expected, rel=1e-5)


def box_mask(box: Box, spacing_mm, shape) -> np.ndarray:
    """Voxels whose centres lie in a box (x, y, z ends in mm)."""
    mask = np.ones(shape, bool)
    for axis, (low, high) in zip((2, 1, 0), box, strict=True):
        centres = (np.arange(shape[axis]) + 0.5) * spacing_mm[2 - axis]
        inside = (centres > low) & (centres < high)
        mask &= np.expand_dims(inside, tuple(other for other in range(3) if other != axis))
    return mask


def box_surface(box: Box, per_mm=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Points on a box's six faces and the area of each."""
    points, areas = [], []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        sides = [
            np.linspace(*box[other], round((box[other][1] - box[other][0]) * per_mm) * 2 + 1)[1::2] for other in others
        ]
        plane = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)
        face = np.prod([box[other][1] - box[other][0] for other in others])
        for end in box[axis]:
            here = np.empty((len(plane), 3))
            here[:, others], here[:, axis] = plane, end
            points.append(here)
            areas.append(np.full(len(plane), face / len(plane)))
    return np.concatenate(points), np.concatenate(areas)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.0, 1.0, 4.0)])
@pytest.mark.parametrize(
    "predicted",
    [
        ((4, 24), (4, 28), (4, 36)),  # higher by 8 mm
        ((4, 24), (10, 28), (4, 28)),  # shallower by 6 mm
        ((7, 27), (4, 28), (4, 28)),  # moved by 3 mm
    ],
)
def test_surface_dice_is_a_share_of_area_also_where_slices_are_thick(predicted, spacing_mm):
    truth: Box = ((4, 24), (4, 28), (4, 28))
    shape = tuple(round(40 / spacing_mm[axis]) for axis in (2, 1, 0))
    (first, first_areas), (second, second_areas) = box_surface(predicted), box_surface(truth)
    near = (nearest_mm(first, second) <= 2) @ first_areas + (nearest_mm(second, first) <= 2) @ second_areas
    found, _ = surface_scores(
        box_mask(predicted, spacing_mm, shape), box_mask(truth, spacing_mm, shape), spacing_mm, 2.0
    )
    assert found == pytest.approx(near / (first_areas.sum() + second_areas.sum()), abs=0.06)


def test_surface_dice_grows_with_the_tolerance_up_to_one():
    prediction, truth = random_mask(1), random_mask(2)
    scores = [surface_scores(prediction, truth, (1.0, 1.0, 1.0), tolerance)[0] for tolerance in (0.1, 1.0, 20.0)]
    assert scores[0] < scores[1] < scores[2] == 1.0


def test_equal_masks_agree_wholly_also_at_the_edge_of_the_field_of_view():
    mask = np.ones((4, 5, 6), bool)
    assert surface_scores(mask, mask, (1.0, 1.0, 3.0), 0.5) == (1.0, 0.0)


def test_an_organ_cut_off_by_the_field_of_view_has_a_surface_there():
    truth = np.ones((10, 10, 10), bool)
    prediction = truth.copy()
    prediction[:5] = False
    surface_dice, hd95_mm = surface_scores(prediction, truth, (1.0, 1.0, 1.0), 1.0)
    assert surface_dice < 0.8
    assert hd95_mm == 5.0


def test_empty_masks_have_no_distance():
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    assert surface_scores(empty, empty, (1.0, 1.0, 1.0), 1.0) == pytest.approx((math.nan, math.nan), nan_ok=True)
    for pair in ((empty, full), (full, empty)):
        assert surface_scores(*pair, (1.0, 1.0, 1.0), 1.0) == pytest.approx((0.0, math.nan), nan_ok=True)


def test_bounding_box_holds_all_voxels_and_no_more():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2:4, 6] = mask[3, 3, 5] = True
    assert bounding_box(mask) == (slice(1, 4), slice(2, 4), slice(5, 7))
