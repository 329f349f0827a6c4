"""Lacuna's own method: hard negatives where a ROI cannot be, consistency elsewhere, by example and by a naive loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.existence import DecisionRule
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.methods.lacuna.task import exclusion_loss, ruled_out_voxels
from tests.support.partial_labels import RIVALS, STRUCTURES, Scaled, drawn_batch, task_of

SHARED = {"network": "any", "encoder": "any"}
LN2, LN3 = math.log(2), math.log(3)


def test_a_worked_example():
    """Two voxels. The liver is labelled at the first; the pancreas is absent by its score, the spleen may be there.

    The spleen, with logit 0 at the first voxel: ln 2 over two voxels, and a probability of 1/2 at that voxel alone. The
    pancreas, with logits ln 3 and 0: (ln 4 + ln 2) / 2, and (3/4 + 1/2) / 2. The tumour may lie in the liver.
    """
    labels = torch.tensor([[True, False], [True, True], [False, True], [True, False]]).reshape(1, 4, 1, 1, 2)
    labelled, absent = torch.tensor([[True, False, False, False]]), torch.tensor([[False, False, False, True]])
    ruled_out = ruled_out_voxels(labels, labelled, absent, RIVALS)
    assert ruled_out.reshape(4, 2).tolist() == [[False, False], [False, False], [True, False], [True, True]]
    logits = torch.tensor([[2.0, -7.0], [1.0, 1.0], [0.0, 5.0], [LN3, 0.0]], dtype=torch.float64)
    logits = logits.reshape(1, 4, 1, 1, 2).requires_grad_()
    loss = exclusion_loss(logits, ruled_out)
    assert loss.tolist() == pytest.approx([((LN2 / 2 + 1 / 2) + (3 * LN2 / 2 + 5 / 8)) / 2])
    loss.backward()
    # σ over two voxels, and σ(1 − σ) over the voxels in question, halved for two ROIs.
    expected = [[0, 0], [0, 0], [(1 / 4 + 1 / 4) / 2, 0], [(3 / 8 + 3 / 32) / 2, (1 / 4 + 1 / 8) / 2]]
    np.testing.assert_allclose(logits.grad.reshape(4, 2), expected, atol=1e-12)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def naive(batch, rule):
    """Exclusion and consistency of each sample, a ROI and a voxel at a time, in float64."""
    student, teacher = (Scaled()(view).detach().flatten(2).tolist() for view in (batch.strong, batch.weak))
    labels, labelled, scores = batch.labels.flatten(2).tolist(), batch.labelled.tolist(), batch.scores.tolist()
    exclusion, consistency = [], []
    for b, of_sample in enumerate(student):
        excluded, held = [], []
        for k, z in enumerate(of_sample):
            if labelled[b][k]:
                continue
            rivals = [j for j, other in enumerate(STRUCTURES) if not set(STRUCTURES[k]) & set(other)]
            taken = [any(labelled[b][j] and labels[b][j][v] for j in rivals) for v in range(len(z))]
            absent = scores[b][k] < rule.negative_below
            out = [absent or each for each in taken]
            if any(out):
                entropy = sum(-math.log(sigmoid(-each)) for each, gone in zip(z, out, strict=True) if gone) / len(z)
                excluded.append(entropy + mean(sigmoid(each) for each, gone in zip(z, out, strict=True) if gone))
            if not absent:
                targets = []
                for v, own in enumerate(teacher[b][k]):
                    highest = max((teacher[b][j][v] for j in rivals if not labelled[b][j]), default=-math.inf)
                    # No more likely than what a likelier rival leaves.
                    target = min(sigmoid(own), sigmoid(-highest)) if highest > own else sigmoid(own)
                    targets.append(0.0 if taken[v] else target)
                held.append(mean((sigmoid(each) - target) ** 2 for each, target in zip(z, targets, strict=True)))
        exclusion.append(mean(excluded))
        consistency.append(mean(held))
    return np.array(exclusion), np.array(consistency)


def scored_batch(seed):
    random = np.random.default_rng(seed)
    weak = torch.tensor(random.normal(size=(3, 1, 2, 3, 2)))
    return replace(drawn_batch(seed, weak), scores=torch.tensor(random.choice([0.05, 0.15, 0.5, 0.9], (3, 4))))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), threshold=st.sampled_from([0.1, 0.2]))
def test_the_terms_equal_their_loops_and_the_total_weighs_them(seed, threshold):
    rule = DecisionRule(negative_below=threshold)
    method = Lacuna(kind="lacuna", decision=rule, exclusion_weight=0.5, consistency_weight=3, **SHARED)
    task, batch = task_of(method), scored_batch(seed)
    losses = task.losses(task.networks, batch, 0.0)
    exclusion, consistency = naive(batch, rule)
    np.testing.assert_allclose(losses.terms["exclusion"].detach(), exclusion, atol=1e-9)
    np.testing.assert_allclose(losses.terms["consistency"].detach(), consistency, atol=1e-9)
    baseline = task_of(LabelsAlone(kind="labels_alone", **SHARED))
    supervised = baseline.losses(baseline.networks, batch, 0.0).total.detach().numpy()
    np.testing.assert_allclose(losses.total.detach().numpy(), supervised + 0.5 * exclusion + 3 * consistency, atol=1e-9)
    assert set(losses.terms) == set(method.terms)


def test_labels_of_unlabelled_rois_are_never_read():
    method = Lacuna(kind="lacuna", **SHARED)
    task, batch = task_of(method), scored_batch(4)
    everything = replace(
        batch,
        planes=batch.planes
        | torch.tensor(np.packbits(~batch.labelled.numpy(), axis=1, bitorder="little"))[..., None, None, None],
    )
    assert not torch.equal(batch.labels, everything.labels)
    one, two = (task.losses(task.networks, each, 0.0) for each in (batch, everything))
    assert torch.equal(one.total, two.total)


def test_before_the_teacher_counts_its_output_is_not_computed():
    """x_T is NaN in a drawn batch, so a pass of the teacher would show."""
    task = task_of(Lacuna(kind="lacuna", warmup_fraction=0.5, **SHARED))
    losses = task.losses(task.networks, drawn_batch(2), 0.25)
    assert torch.isfinite(losses.total).all()
    assert torch.count_nonzero(losses.terms["consistency"]) == 0
