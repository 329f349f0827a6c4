"""Leaf Dice against a worked example and a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.methods.leaf_dice.settings import LeafDice
from pipeline_lib.methods.leaf_dice.task import leaf_dice_loss
from pipeline_lib.methods.leaves import allowed_leaves, leaf_logits
from tests.methods.test_target_adaptive import naive as naive_cross_entropy
from tests.support.partial_labels import LEAVES, agreeing, chances, drawn, losses_of, sets_of_rois, voxels


def test_a_worked_example():
    """Two voxels with 1/6 background, 2/6 liver, 3/6 spleen. The first is liver, the second is background or spleen.

    Only the liver is certain anywhere: 2 · 1/3 / (2/9 + 1) = 6/11, and over three leaves 2/11.
    """
    z = torch.tensor([0, math.log(2), math.log(3)], dtype=torch.float64).repeat(2, 1).T.reshape(1, 3, 1, 1, 2)
    z = z.clone().requires_grad_()
    allowed = torch.tensor([[False, True], [True, False], [False, True]]).reshape(1, 3, 1, 1, 2)
    loss = leaf_dice_loss(z, allowed)
    assert loss.tolist() == pytest.approx([9 / 11], abs=1e-5)
    loss.backward()
    # Dice changes by 162/121 with p of the first voxel and by −36/121 with that of the second; p by p (1 − p) with its
    # own logit and by −pq with another.
    first, second = 162 / 121 / 3, -36 / 121 / 3
    expected = [[first / 18, second / 18], [-first * 2 / 9, -second * 2 / 9], [first / 6, second / 6]]
    np.testing.assert_allclose(z.grad.reshape(3, 2), expected, atol=1e-5)


def naive(logits, labels, labelled):
    values = []
    for z, truth, known in zip(logits, labels, labelled.tolist(), strict=True):
        likely = [chances(of_rois) for of_rois in voxels(z)]
        possible = [agreeing(of_rois, known) for of_rois in voxels(truth)]
        dice = []
        for leaf in sets_of_rois():
            p = [voxel[leaf] for voxel in likely]
            y = [float(sets == [leaf]) for sets in possible]
            dice.append(2 * np.dot(p, y) / (np.dot(p, p) + sum(y) + 1e-5))
        values.append(1 - np.mean(dice))
    return values


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_loss_equals_its_loop(seed):
    logits, labels, labelled = drawn(seed)
    labelled |= torch.tensor([[False], [True], [bool(seed % 2)]])
    found = leaf_dice_loss(leaf_logits(logits, LEAVES), allowed_leaves(labels, labelled, LEAVES))
    np.testing.assert_allclose(found, naive(logits, labels, labelled), atol=1e-9)


def test_where_no_leaf_is_certain_it_has_no_gradient():
    z = leaf_logits(drawn(1)[0], LEAVES).requires_grad_()
    loss = leaf_dice_loss(z, torch.ones_like(z, dtype=torch.bool))
    loss.sum().backward()
    assert loss.tolist() == [1.0] * 3
    assert torch.count_nonzero(z.grad) == 0


def test_the_task_adds_it_to_the_marginal_cross_entropy():
    losses, logits, labels, labelled = losses_of(LeafDice(kind="leaf_dice", network="n", encoder="e"), 3)
    expected = np.add(naive_cross_entropy(logits, labels, labelled), naive(logits, labels, labelled))
    np.testing.assert_allclose(losses.total.detach(), expected, atol=1e-9)
    assert set(losses.terms) == set(LeafDice.terms)
