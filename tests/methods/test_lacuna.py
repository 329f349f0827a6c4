"""Lacuna's own method: pseudo labels that existence scores agree with, by example and by a naive loop."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.existence import DecisionRule
from pipeline_lib.existence.decisions import Decisions
from pipeline_lib.methods.labels_alone.settings import LabelsAlone
from pipeline_lib.methods.lacuna.settings import Lacuna
from pipeline_lib.methods.lacuna.task import agreement_loss
from tests.support.partial_labels import STRUCTURES, Scaled, drawn_batch, task_of

SHARED = {"network": "any", "encoder": "any"}
LN2, LN3 = math.log(2), math.log(3)


def flags(*values):
    return torch.tensor([[bool(value) for value in values]])


def test_a_worked_example():
    """Three voxels, certainty 3/4, hence from a logit of ln 3 on; one certain voxel is enough.

    A positive ROI with teacher ln 3, 0, −5: inside at the first, outside at the third, nothing at the second. The
    student, with 0 everywhere, pays ln 2 at two of three voxels. A positive ROI of which the teacher is certain nowhere
    inside: nothing, though it is certain outside. A negative ROI with 5, −ln 3, −5: outside at two voxels, where the
    student with ln 3 pays ln 4 each; the first, where the teacher contradicts the score, counts for nothing. The last
    ROI is labelled. So (2/3 ln 2 + 0 + 2/3 ln 4) / 3.
    """
    teacher = torch.tensor([[LN3, 0, -5], [1, -5, -5], [5, -LN3, -5], [9, 9, 9]], dtype=torch.float64)
    student = torch.tensor([[0, 0, 0], [4, 4, 4], [LN3, LN3, LN3], [1, 1, 1]], dtype=torch.float64)
    student = student.reshape(1, 4, 1, 1, 3).requires_grad_()
    decisions = Decisions(flags(0, 0, 0, 1), flags(1, 1, 0, 0), flags(0, 0, 1, 0), flags(0, 0, 0, 0))
    method = Lacuna(kind="lacuna", certainty=0.75, seen_voxels=1, **SHARED)
    loss = agreement_loss(student, teacher.reshape(1, 4, 1, 1, 3), decisions, method)
    assert loss.tolist() == pytest.approx([(2 / 3 * LN2 + 2 / 3 * 2 * LN2) / 3])
    loss.backward()
    # σ − target, over three voxels and three ROIs.
    expected = np.array([[-1 / 2, 0, 1 / 2], [0, 0, 0], [0, 3 / 4, 3 / 4], [0, 0, 0]]) / 9
    np.testing.assert_allclose(student.grad.reshape(4, 3), expected, atol=1e-12)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def naive(batch, method):
    """The agreed cross-entropy and the consistency of each sample, a ROI and a voxel at a time, in float64."""
    student, teacher = (Scaled()(view).detach().flatten(2).tolist() for view in (batch.strong, batch.weak))
    labels, labelled, scores = batch.labels.flatten(2).tolist(), batch.labelled.tolist(), batch.scores.tolist()
    agreed, consistency = [], []
    for b, of_sample in enumerate(student):
        latent, held = [], []
        for k, z in enumerate(of_sample):
            if labelled[b][k]:
                continue
            rivals = [j for j, other in enumerate(STRUCTURES) if not set(STRUCTURES[k]) & set(other)]
            targets = []
            for v, own in enumerate(teacher[b][k]):
                taken = any(labelled[b][j] and labels[b][j][v] for j in rivals)
                highest = max((teacher[b][j][v] for j in rivals if not labelled[b][j]), default=-math.inf)
                # No more likely than what a likelier rival leaves.
                target = min(sigmoid(own), sigmoid(-highest)) if highest > own else sigmoid(own)
                targets.append(0.0 if taken else target)
            if method.decision.negative_below <= scores[b][k] <= method.decision.positive_above:
                held.append(mean((sigmoid(each) - target) ** 2 for each, target in zip(z, targets, strict=True)))
                continue
            is_positive = scores[b][k] > method.decision.positive_above
            is_seen = sum(target >= method.certainty for target in targets) >= method.seen_voxels
            terms = []
            for each, target in zip(z, targets, strict=True):
                if target >= method.certainty and is_positive and is_seen:
                    terms.append(-math.log(sigmoid(each)))
                elif target <= 1 - method.certainty and (is_seen or not is_positive):
                    terms.append(-math.log(sigmoid(-each)))
                else:
                    terms.append(0.0)
            latent.append(mean(terms))
        agreed.append(mean(latent))
        consistency.append(mean(held))
    return np.array(agreed), np.array(consistency)


def scored_batch(seed):
    random = np.random.default_rng(seed)
    weak = torch.tensor(random.normal(size=(3, 1, 2, 3, 2)))
    return replace(drawn_batch(seed, weak), scores=torch.tensor(random.choice([0.05, 0.15, 0.5, 0.9], (3, 4))))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    threshold=st.sampled_from([0.1, 0.2]),
    certainty=st.sampled_from([0.6, 0.9]),
    seen=st.integers(1, 4),
)
def test_the_terms_equal_their_loops_and_the_total_weighs_them(seed, threshold, certainty, seen):
    rule = DecisionRule(negative_below=threshold)
    keys = {"decision": rule, "certainty": certainty, "seen_voxels": seen, "latent_weight": 0.5}
    method = Lacuna(kind="lacuna", consistency_weight=3, warmup_fraction=0, rampup_fraction=0, **keys, **SHARED)
    task, batch = task_of(method), scored_batch(seed)
    losses = task.losses(task.networks, batch, 0.0)
    agreed, consistency = naive(batch, method)
    np.testing.assert_allclose(losses.terms["latent"].detach(), agreed, atol=1e-9)
    np.testing.assert_allclose(losses.terms["consistency"].detach(), consistency, atol=1e-9)
    baseline = task_of(LabelsAlone(kind="labels_alone", **SHARED))
    supervised = baseline.losses(baseline.networks, batch, 0.0).total.detach().numpy()
    np.testing.assert_allclose(losses.total.detach().numpy(), supervised + 0.5 * agreed + 3 * consistency, atol=1e-9)
    assert set(losses.terms) == set(method.terms)


def test_labels_of_unlabelled_rois_are_never_read():
    method = Lacuna(kind="lacuna", warmup_fraction=0, certainty=0.6, seen_voxels=1, **SHARED)
    task, batch = task_of(method), scored_batch(4)
    everything = replace(
        batch,
        planes=batch.planes
        | torch.tensor(np.packbits(~batch.labelled.numpy(), axis=1, bitorder="little"))[..., None, None, None],
    )
    assert not torch.equal(batch.labels, everything.labels)
    one, two = (task.losses(task.networks, each, 1.0) for each in (batch, everything))
    assert torch.equal(one.total, two.total)


def test_before_the_teacher_counts_its_output_is_not_computed():
    """x_T is NaN in a drawn batch, and every ROI ambiguous, so a pass of the teacher shows, as it does later."""
    task = task_of(Lacuna(kind="lacuna", **SHARED))
    batch = replace(drawn_batch(2), scores=torch.full((3, 4), 0.5))
    losses = task.losses(task.networks, batch, 0.25)
    assert torch.isfinite(losses.total).all()
    assert torch.count_nonzero(losses.terms["consistency"]) == 0
    assert not torch.isfinite(task.losses(task.networks, batch, 0.9).total).all()


def test_a_roi_is_seen_at_voxels_that_labels_leave_open_alone():
    """Certain at two voxels, of which the label of one is known: seen with one voxel, not with two."""
    teacher = torch.tensor([5.0, 5.0, -5.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 1, 4)
    where = torch.tensor([True, False, True, True]).reshape(1, 1, 1, 1, 4)
    decisions = Decisions(flags(0), flags(1), flags(0), flags(0))
    losses = [
        agreement_loss(
            torch.zeros_like(teacher), teacher, decisions, Lacuna(kind="lacuna", seen_voxels=n, **SHARED), where
        )
        for n in (1, 2)
    ]
    # Inside at the first voxel, outside at the third, over the three that are open.
    assert [loss.item() for loss in losses] == pytest.approx([2 / 3 * LN2, 0])
