"""One softmax over the sets of ROIs that a voxel can be in, against independent ROIs given that rivals exclude."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.errors import UserError
from pipeline_lib.methods.exclusive_organs import exclusive_rois
from pipeline_lib.methods.leaf_task import LeafTask
from pipeline_lib.methods.leaves import (
    allowed_leaves,
    leaf_logits,
    leaves_of,
    roi_logits,
    roi_probabilities,
)
from tests.support.partial_labels import LEAVES, STRUCTURES, agreeing, chances, drawn, sets_of_rois, voxels


def test_a_worked_example():
    """Liver 2 and spleen 3 times as likely as background exclude each other: 1/6 background, 2/6 liver, 3/6 spleen."""
    leaves = leaves_of(exclusive_rois((("liver",), ("spleen",))))
    assert leaves == ((), (0,), (1,))
    z = leaf_logits(torch.tensor([math.log(2), math.log(3)]).reshape(1, 2, 1, 1, 1), leaves)
    np.testing.assert_allclose(z.softmax(1).flatten(), [1 / 6, 2 / 6, 3 / 6], rtol=1e-6)
    np.testing.assert_allclose(roi_probabilities(z, leaves).flatten(), [1 / 3, 1 / 2], rtol=1e-6)
    # ln(P / (1 − P)): ln(1/2) and ln 1.
    np.testing.assert_allclose(roi_logits(z, leaves).flatten(), [-math.log(2), 0], atol=1e-6)


@pytest.mark.parametrize(
    "structures",
    [STRUCTURES, (("a", "b"), ("b", "c"), ("c",), ("d",)), (("a",),) * 4, (("a",), ("b",), ("c",), ("d",))],
    ids=["one organ of two", "a chain", "one organ", "all exclusive"],
)
def test_the_leaves_are_all_sets_that_can_be_and_their_probabilities_those_of_independent_rois(structures):
    leaves = leaves_of(exclusive_rois(structures))
    assert sorted(leaves) == sorted(sets_of_rois(structures))
    logits, _, _ = drawn(5)
    z = leaf_logits(logits, leaves)
    p, marginal, of_rois = z.softmax(1), roi_probabilities(z, leaves), roi_logits(z, leaves)
    for sample in range(3):
        for voxel, values in enumerate(voxels(logits[sample])):
            expected = chances(values, structures)
            found = p[sample].flatten(1)[:, voxel].tolist()
            assert found == pytest.approx([expected[leaf] for leaf in leaves])
            for roi in range(4):
                total = sum(chance for subset, chance in expected.items() if roi in subset)
                assert float(marginal[sample, roi].flatten()[voxel]) == pytest.approx(total)
                logit = math.log(total / (1 - total))
                assert float(of_rois[sample, roi].flatten()[voxel]) == pytest.approx(logit)


def test_rois_of_one_organ_keep_their_sigmoids():
    logits, _, _ = drawn(6)
    leaves = leaves_of(exclusive_rois((("a",),) * 4))
    np.testing.assert_allclose(roi_logits(leaf_logits(logits, leaves), leaves), logits, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_allowed_leaves_are_those_that_agree_with_the_labels(seed):
    _, labels, labelled = drawn(seed)
    allowed = allowed_leaves(labels, labelled, LEAVES)
    for sample in range(3):
        for voxel, values in enumerate(voxels(labels[sample])):
            found = {leaf for leaf, yes in zip(LEAVES, allowed[sample].flatten(1)[:, voxel], strict=True) if yes}
            assert found == set(agreeing(values, labelled[sample].tolist()))


def test_prediction_gives_the_rois_probabilities():
    logits, _, _ = drawn(7)
    expected = roi_probabilities(leaf_logits(logits, LEAVES), LEAVES)
    found = LeafTask.probabilities(logits, STRUCTURES)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # Nowhere are two organs both likely.
    assert float((found[:, 0] + found[:, 2] + found[:, 3]).max()) <= 1 + 1e-9


def test_extreme_logits_are_exact_and_half_precision_is_widened():
    leaves = leaves_of(exclusive_rois((("liver",), ("spleen",))))
    z = leaf_logits(torch.tensor([500.0, 490.0], dtype=torch.bfloat16).reshape(1, 2, 1, 1, 1), leaves)
    assert z.dtype == torch.float32
    liver, spleen = roi_logits(z, leaves).flatten().tolist()
    apart = float(torch.tensor(500.0).bfloat16() - torch.tensor(490.0).bfloat16())
    assert (liver, spleen) == pytest.approx((apart, -apart), abs=1e-4)


def test_too_many_rois_of_one_organ_are_refused():
    with pytest.raises(UserError, match="too many to tell apart"):
        leaves_of(((),) * 9)
    assert len(leaves_of(((),) * 8)) == 256
