"""The target adaptive loss against a worked example and a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.methods.exclusive_organs import exclusive_rois
from pipeline_lib.methods.leaves import allowed_leaves, leaf_logits, leaves_of, marginal_cross_entropy
from pipeline_lib.methods.target_adaptive.settings import TargetAdaptive
from tests.support.partial_labels import LEAVES, agreeing, chances, drawn, losses_of, voxels

TWO = leaves_of(exclusive_rois((("liver",), ("spleen",))))


def test_a_worked_example():
    """Two voxels, the first in the liver; only the liver is labelled. The softmax is 1/6, 2/6 (liver), 3/6 (spleen).

    The first voxel costs −ln 2/6 = ln 3. At the second the spleen joins the background: −ln 4/6 = ln 1.5.
    """
    logits = torch.tensor([[math.log(2)] * 2, [math.log(3)] * 2], dtype=torch.float64)
    logits = logits.reshape(1, 2, 1, 1, 2).requires_grad_()
    labels = torch.tensor([[True, False], [True, True]]).reshape(1, 2, 1, 1, 2)
    allowed = allowed_leaves(labels, torch.tensor([[True, False]]), TWO)
    loss = marginal_cross_entropy(leaf_logits(logits, TWO), allowed)
    assert loss.tolist() == pytest.approx([(math.log(3) + math.log(1.5)) / 2])
    loss.backward()
    # p, less p / Σp over what is allowed: liver 1/3 − 1 and 1/3, spleen 1/2 and 1/2 − 3/4; over two voxels.
    np.testing.assert_allclose(logits.grad.reshape(2, 2), [[-1 / 3, 1 / 6], [1 / 4, -1 / 8]], atol=1e-12)


def naive(logits, labels, labelled):
    values = []
    for sample in range(len(logits)):
        costs = []
        for of_rois, truth in zip(voxels(logits[sample]), voxels(labels[sample]), strict=True):
            likely = chances(of_rois)
            costs.append(-math.log(sum(likely[subset] for subset in agreeing(truth, labelled[sample].tolist()))))
        values.append(np.mean(costs))
    return values


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_loss_equals_its_loop(seed):
    logits, labels, labelled = drawn(seed)
    found = marginal_cross_entropy(leaf_logits(logits, LEAVES), allowed_leaves(labels, labelled, LEAVES))
    np.testing.assert_allclose(found, naive(logits, labels, labelled), atol=1e-9)


def test_with_everything_labelled_and_exclusive_it_is_plain_cross_entropy():
    logits = drawn(1)[0][:, :2]
    truth = torch.randint(0, 3, (3, 2, 3, 2), generator=torch.Generator().manual_seed(0))
    labels = torch.stack([truth == 1, truth == 2], 1)
    allowed = allowed_leaves(labels, torch.ones(3, 2, dtype=torch.bool), TWO)
    z = leaf_logits(logits, TWO)
    expected = F.cross_entropy(z, truth, reduction="none").flatten(1).mean(1)
    np.testing.assert_allclose(marginal_cross_entropy(z, allowed), expected, atol=1e-12)


def test_where_nothing_is_labelled_or_labels_contradict_each_other_it_is_zero_with_zero_gradient():
    logits, labels, labelled = drawn(2)
    logits.requires_grad_()
    labels[1, [0, 2]], labelled[1, [0, 2]] = True, True  # a voxel in the liver and in the spleen
    labelled[0] = False
    loss = marginal_cross_entropy(leaf_logits(logits, LEAVES), allowed_leaves(labels, labelled, LEAVES))
    loss[:2].sum().backward()
    assert loss[:2].tolist() == [0.0, 0.0]
    assert torch.count_nonzero(logits.grad) == 0


def test_the_task_has_this_term_alone():
    losses, logits, labels, labelled = losses_of(TargetAdaptive(kind="target_adaptive", network="n", encoder="e"), 3)
    np.testing.assert_allclose(losses.total.detach(), naive(logits, labels, labelled), atol=1e-9)
    assert set(losses.terms) == set(TargetAdaptive.terms)
