"""Marginal and exclusion losses against a worked example and a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.methods.leaves import leaf_logits, roi_probabilities
from pipeline_lib.methods.marginal_exclusion.settings import MarginalExclusion
from pipeline_lib.methods.marginal_exclusion.task import exclusion_dice, marginal_dice
from tests.methods.test_target_adaptive import naive as naive_cross_entropy
from tests.support.partial_labels import LEAVES, RIVALS, STRUCTURES, chances, drawn, losses_of, voxels

SHARED = {"kind": "marginal_exclusion", "network": "n", "encoder": "e"}


def test_a_worked_example():
    """Two voxels, the first in the liver; only the liver is labelled. At both P is 1/3 for liver, 1/2 for spleen.

    Marginal Dice of the liver: 2 · 1/3 / (2/3 + 1 + 1) = 1/4. Exclusion: the liver with the second voxel, 1/4 too; the
    spleen with the first, 2 · 1/2 / (1 + 1 + 1) = 1/3; their mean is 7/24.
    """
    p = torch.tensor([[1 / 3, 1 / 3], [1 / 2, 1 / 2]], dtype=torch.float64).reshape(1, 2, 1, 1, 2).requires_grad_()
    labels = torch.tensor([[True, False], [True, True]]).reshape(1, 2, 1, 1, 2)
    labelled, rivals = torch.tensor([[True, False]]), ((1,), (0,))
    dice = marginal_dice(p, labels, labelled, "published")
    exclusion = exclusion_dice(p, labels, labelled, rivals, "published")
    assert dice.tolist() == pytest.approx([3 / 4])
    assert exclusion.tolist() == pytest.approx([7 / 24])
    # Of 2a / (a + b + 2): by a 2/S − 2a/S², by b −2a/S². S is 8/3 for the liver, 3 for the spleen.
    (by_dice,) = torch.autograd.grad(dice.sum(), p)
    (by_exclusion,) = torch.autograd.grad(exclusion.sum(), p)
    np.testing.assert_allclose(by_dice.reshape(2, 2), [[-21 / 32, 3 / 32], [0, 0]], atol=1e-12)
    np.testing.assert_allclose(by_exclusion.reshape(2, 2), [[-3 / 64, 21 / 64], [5 / 18, -1 / 18]], atol=1e-12)


def overlap(p, y):
    """Soft Dice with one voxel in the denominator."""
    return 2 * sum(a * b for a, b in zip(p, y, strict=True)) / (sum(p) + sum(y) + 1)


def naive(logits, labels, labelled):
    """Marginal Dice loss and exclusion Dice of each sample."""
    values = []
    for z, truth, known in zip(logits, labels, labelled.tolist(), strict=True):
        likely = [chances(of_rois) for of_rois in voxels(z)]
        truths = voxels(truth)
        dice, exclusion = [], []
        for k, own in enumerate(STRUCTURES):
            p = [sum(chance for subset, chance in voxel.items() if k in subset) for voxel in likely]
            rivals = [j for j, other in enumerate(STRUCTURES) if known[j] and not set(own) & set(other)]
            if known[k]:
                dice.append(1 - overlap(p, [voxel[k] for voxel in truths]))
                excluded = [not voxel[k] for voxel in truths]
            else:
                excluded = [any(voxel[j] for j in rivals) for voxel in truths]
            if (known[k] or rivals) and not all(known):
                exclusion.append(overlap(p, excluded))
        values.append([np.mean(terms) if terms else 0.0 for terms in (dice, exclusion)])
    return np.array(values)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_both_terms_equal_their_loop(seed):
    logits, labels, labelled = drawn(seed)
    labelled[2] |= bool(seed % 2)  # in half of the examples the third sample labels everything
    p = roi_probabilities(leaf_logits(logits, LEAVES), LEAVES)
    found = [
        marginal_dice(p, labels, labelled, "published"),
        exclusion_dice(p, labels, labelled, RIVALS, "published"),
    ]
    np.testing.assert_allclose(np.stack(found, 1), naive(logits, labels, labelled), atol=1e-9)


def test_a_sample_without_labels_has_no_gradient():
    p = torch.rand(1, 4, 2, 2, 2, requires_grad=True)
    labels, labelled = torch.ones(1, 4, 2, 2, 2, dtype=torch.bool), torch.zeros(1, 4, dtype=torch.bool)
    (marginal_dice(p, labels, labelled, "batch") + exclusion_dice(p, labels, labelled, RIVALS, "batch")).backward()
    assert torch.count_nonzero(p.grad) == 0


@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_the_task_weighs_the_exclusion(weight):
    losses, logits, labels, labelled = losses_of(MarginalExclusion(exclusion_weight=weight, **SHARED), 3)
    dice, exclusion = naive(logits, labels, labelled).T
    expected = np.array(naive_cross_entropy(logits, labels, labelled)) + dice + weight * exclusion
    np.testing.assert_allclose(losses.total.detach(), expected, atol=1e-9)
    assert set(losses.terms) == set(MarginalExclusion.terms)
    assert math.isclose(MarginalExclusion(**SHARED).exclusion_weight, 2)


def test_dice_over_the_batch_depends_on_it():
    assert MarginalExclusion(dice="batch", **SHARED).sums_over_batch
    assert not MarginalExclusion(**SHARED).sums_over_batch
