"""Implicit labelling: a label of one organ is a negative of its rivals, against a worked example and a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.methods.implicit_labelling.settings import ImplicitLabelling
from pipeline_lib.methods.implicit_labelling.task import exclusion_loss
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from tests.support.partial_labels import RIVALS, STRUCTURES, drawn, losses_of


def test_a_worked_example():
    """Two voxels; the liver is labelled and fills the first. Spleen and pancreas are negatives there, and only there.

    spleen: softplus(0) = ln 2 at the first voxel, so ln 2 / 2 over the patch. Pancreas: softplus(ln 3) = ln 4 at the
    first, so ln 4 / 2. Their mean is 3 · ln 2 / 4. The tumour may lie in the liver, so its logits do not count.
    """
    logits = torch.tensor([[2.0, -7.0], [1.0, 1.0], [0.0, 5.0], [math.log(3), -2.0]], dtype=torch.float64)
    logits = logits.reshape(1, 4, 1, 1, 2).requires_grad_()
    targets = torch.tensor([[True, False], [True, True], [True, True], [True, True]]).reshape(1, 4, 1, 1, 2)
    loss = exclusion_loss(logits, targets, torch.tensor([[True, False, False, False]]), RIVALS)
    assert loss.tolist() == pytest.approx([3 * math.log(2) / 4])
    loss.backward()
    # The derivative of softplus is σ: 1/2 and 3/4 at the first voxel, divided by two voxels and two ROIs.
    expected = [[0, 0], [0, 0], [0.5 / 4, 0], [0.75 / 4, 0]]
    np.testing.assert_allclose(logits.grad.reshape(4, 2), expected, atol=1e-12)


def naive(logits, targets, labelled):
    """The term in plain words, a sample, a ROI and a voxel at a time, in float64."""
    B, K = labelled.shape
    values = []
    for b in range(B):
        of_rois = []
        for k in range(K):
            rivals = [j for j in range(K) if labelled[b, j] and not set(STRUCTURES[j]) & set(STRUCTURES[k])]
            if labelled[b, k] or not rivals:
                continue
            total = 0.0
            for voxel, z in enumerate(logits[b, k].flatten().tolist()):
                if any(targets[b, j].flatten()[voxel] for j in rivals):
                    total -= math.log(1 - 1 / (1 + math.exp(-z)))
            of_rois.append(total / logits[b, k].numel())
        values.append(sum(of_rois) / len(of_rois) if of_rois else 0.0)
    return values


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_term_equals_its_loop(seed):
    logits, targets, labelled = drawn(seed)
    np.testing.assert_allclose(exclusion_loss(logits, targets, labelled, RIVALS), naive(logits, targets, labelled))


@pytest.mark.parametrize("labels", [[True] * 4, [False] * 4])
def test_where_all_or_nothing_is_labelled_it_is_zero_with_zero_gradient(labels):
    logits, targets, _ = drawn(1)
    logits.requires_grad_()
    loss = exclusion_loss(logits, targets, torch.tensor([labels] * 3), RIVALS)
    loss.sum().backward()
    assert loss.tolist() == [0.0] * 3
    assert torch.count_nonzero(logits.grad) == 0


def test_targets_of_unlabelled_rois_are_never_read():
    logits, targets, labelled = drawn(2)
    before = exclusion_loss(logits, targets, labelled, RIVALS)
    targets[~labelled] ^= True
    assert torch.equal(exclusion_loss(logits, targets, labelled, RIVALS), before)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_the_task_adds_the_weighted_term_to_equation_1(weight):
    shared = {"network": "any", "encoder": "any"}
    method = ImplicitLabelling(kind="implicit_labelling", label_exclusion_weight=weight, **shared)
    mine, logits, targets, labelled = losses_of(method, 3)
    baseline = losses_of(LabelsAlone(kind="labels_alone", **shared), 3)[0]
    expected = np.array(naive(logits, targets, labelled))
    np.testing.assert_allclose((mine.total - baseline.total).detach(), weight * expected, atol=1e-12)
    assert set(mine.terms) == set(method.terms)
