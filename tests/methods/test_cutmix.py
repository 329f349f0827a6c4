"""Boxes of one sample in place of another's: where they lie, and what is mixed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.methods.cutmix import box_masks, draw_box, mixed, partners


@given(st.integers(0, 10**6), st.sampled_from([(64, 32, 32), (160, 160, 96)]))
def test_a_box_has_the_published_share_and_shape(sample, shape):
    box = draw_box(shape, 0, sample, 0)
    assert all(0 <= side.start < side.stop <= length for side, length in zip(box, shape, strict=True))
    shares = [(side.stop - side.start) / length for side, length in zip(box, shape, strict=True)]
    # A side is off by half a voxel at most.
    off = [0.5 / length for length in shape]
    assert np.prod(np.add(shares, off)) >= 0.02
    assert np.prod(np.subtract(shares, off)) <= 0.4
    for other, less in zip(shares[1:], off[1:], strict=True):
        assert (other + less) / (shares[0] - off[0]) >= 0.3
        assert (other - less) / (shares[0] + off[0]) <= 1 / 0.3


def test_boxes_are_spread_over_shares_and_places():
    boxes = [draw_box((100, 100, 100), 0, sample, 0) for sample in range(2000)]
    volumes = [np.prod([side.stop - side.start for side in box]) / 1e6 for box in boxes]
    # Large shares with long sides do not fit and are drawn again, so the mean lies below that of 0.02…0.4.
    assert 0.15 < np.mean(volumes) < 0.21
    assert min(volumes) < 0.03
    assert max(volumes) > 0.37
    for axis in range(3):
        covered = np.zeros(100)
        for box in boxes:
            covered[box[axis]] += 1
        assert (covered > 0).all()
        np.testing.assert_allclose(covered / covered[::-1], 1, atol=0.5)


def test_a_box_is_keyed_by_seed_sample_and_view():
    first = draw_box((64, 32, 32), 3, 5, 1)
    assert first == draw_box((64, 32, 32), 3, 5, 1)
    others = [draw_box((64, 32, 32), *key) for key in ((4, 5, 1), (3, 6, 1), (3, 5, 0))]
    assert all(first != other for other in others)
    assert all(one != other for one, other in pairwise(others))
    masks = box_masks((64, 32, 32), 3, (5, 6), 1, torch.device("cpu"))
    assert masks.shape == (2, 1, 64, 32, 32)
    assert masks[0, 0][first].all()
    assert masks[0].sum() == np.prod([side.stop - side.start for side in first])


def test_a_worked_example():
    """Each sample has the next one's values inside its box; the last has the first one's."""
    values = torch.tensor([[1, 2], [3, 4], [5, 6]]).reshape(3, 1, 1, 1, 2)
    box = torch.tensor([[True, False], [False, False], [True, True]]).reshape(3, 1, 1, 1, 2)
    assert mixed(values, box).reshape(3, 2).tolist() == [[3, 2], [3, 4], [1, 2]]


def test_a_sample_alone_has_no_partner():
    with pytest.raises(UserError, match="mixing needs two"):
        partners(torch.zeros(1, 2))
