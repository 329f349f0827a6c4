"""Lacuna's own method: the paper's terms and certain pseudo labels, by example and by a naive loop."""

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
from pipeline_lib.methods.lacuna.task import certain_loss
from tests.support.partial_labels import STRUCTURES, Scaled, drawn_batch, task_of
from tests.support.volume_labels import label_bits

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
    loss = certain_loss(student, teacher.reshape(1, 4, 1, 1, 3), decisions, method)
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


def sharpened(target):
    """Eq. 2's target: the probability after dividing its logit by 0.1, as powers."""
    return target**10 / (target**10 + (1 - target) ** 10)


def cross_entropy(z, target):
    return -target * math.log(sigmoid(z)) - (1 - target) * math.log(sigmoid(-z))


def naive(batch, method):
    """Eq. 2, Eq. 3 and the certain pseudo labels of each sample, a ROI and a voxel at a time, in float64."""
    student, teacher = (Scaled()(view).detach().flatten(2).tolist() for view in (batch.strong, batch.weak))
    labels, labelled, scores = batch.labels.flatten(2).tolist(), batch.labelled.tolist(), batch.scores.tolist()
    found = {"latent": [], "consistency": [], "certain": []}
    for b, of_sample in enumerate(student):
        latent, held, certain = [], [], []
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
            pairs = list(zip(z, targets, strict=True))
            if method.decision.negative_below <= scores[b][k] <= method.decision.positive_above:
                held.append(mean((sigmoid(each) - target) ** 2 for each, target in pairs))
                continue
            latent.append(mean(cross_entropy(each, sharpened(target)) for each, target in pairs))
            is_positive = scores[b][k] > method.decision.positive_above
            is_seen = sum(target >= method.certainty for target in targets) >= method.seen_voxels
            terms = []
            for each, target in pairs:
                if target >= method.certainty and is_positive and is_seen:
                    terms.append(cross_entropy(each, 1))
                elif target <= 1 - method.certainty and (is_seen or not is_positive):
                    terms.append(cross_entropy(each, 0))
                else:
                    terms.append(0.0)
            certain.append(mean(terms))
        for name, values in (("latent", latent), ("consistency", held), ("certain", certain)):
            found[name].append(mean(values))
    return {name: np.array(values) for name, values in found.items()}


def scored_batch(seed):
    random = np.random.default_rng(seed)
    weak = torch.tensor(random.normal(size=(3, 1, 2, 3, 2)))
    return replace(drawn_batch(seed, weak), scores=torch.tensor(random.choice([0.05, 0.15, 0.5, 0.9], (3, 4))))


def unknown_in_a_plane(batch):
    """The same batch, whose labels are unknown in one plane."""
    unknown = torch.zeros_like(batch.labels)
    unknown[:, :, 0] = batch.labelled[:, :, None, None]
    return replace(batch, unknown=label_bits(unknown))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    threshold=st.sampled_from([0.1, 0.2]),
    certainty=st.sampled_from([0.6, 0.9]),
    seen=st.integers(1, 4),
)
def test_the_terms_equal_their_loops_and_the_total_weighs_them(seed, threshold, certainty, seen):
    rule = DecisionRule(negative_below=threshold)
    keys = {"decision": rule, "certainty": certainty, "seen_voxels": seen, "certain_weight": 0.5}
    method = Lacuna(kind="lacuna", warmup_fraction=0, rampup_fraction=0, **keys, **SHARED)
    task, batch = task_of(method), scored_batch(seed)
    losses = task.losses(task.networks, batch, 0.0)
    expected = naive(batch, method)
    for name, values in expected.items():
        np.testing.assert_allclose(losses.terms[name].detach(), values, atol=1e-9, err_msg=name)
    baseline = task_of(LabelsAlone(kind="labels_alone", **SHARED))
    supervised = baseline.losses(baseline.networks, batch, 0.0).total.detach().numpy()
    total = supervised + expected["latent"] + expected["consistency"] + 0.5 * expected["certain"]
    np.testing.assert_allclose(losses.total.detach().numpy(), total, atol=1e-9)
    assert set(losses.terms) == set(method.terms)


@pytest.mark.parametrize("term", Lacuna.terms)
def test_known_voxels_are_for_the_labels_alone(term):
    """Labels are unknown in one plane: what the teacher says counts there, and what labels say elsewhere."""
    batch = unknown_in_a_plane(scored_batch(4))
    method = Lacuna(kind="lacuna", warmup_fraction=0, certainty=0.6, seen_voxels=1, **SHARED)
    task = task_of(method)
    logits = torch.zeros_like(batch.labels, dtype=torch.float64).requires_grad_()

    def student(view):
        return Scaled()(view) + logits

    task.losses({**task.networks, "student": student}, batch, 1.0).terms[term].sum().backward()
    reached = logits.grad != 0
    assert reached.any()
    assert not (reached & (~batch.known if term == "supervised" else batch.known)).any()


def test_without_a_decision_rule_every_unlabelled_roi_is_positive_whatever_its_score():
    keys = {"warmup_fraction": 0, "certainty": 0.6, "seen_voxels": 1, **SHARED}
    batch = scored_batch(4)
    task = task_of(Lacuna(kind="lacuna", decision=None, **keys))
    blind = task.losses(task.networks, replace(batch, scores=torch.full_like(batch.scores, torch.nan)), 1.0)
    task = task_of(Lacuna(kind="lacuna", **keys))
    sure = task.losses(task.networks, replace(batch, scores=torch.ones_like(batch.scores)), 1.0)
    assert sure.terms["certain"].count_nonzero()
    torch.testing.assert_close(blind.total, sure.total)
    assert "positive" in sure.counts
    assert "positive" not in blind.counts


def test_without_a_decision_rule_teachers_teach_all_that_labels_leave_open():
    """Also of a ROI of which labels are known in parts; nothing was decided about any."""
    batch = scored_batch(4)
    task = task_of(Lacuna(kind="lacuna", decision=None, warmup_fraction=0, certainty=0.6, seen_voxels=1, **SHARED))
    for each, left_open in (
        (batch, ~batch.labelled),
        (unknown_in_a_plane(batch), batch.labelled | 1),
    ):
        (decision,) = task.pseudo_labels(each).decisions.items()
        assert decision[0] == "unlabelled"
        assert torch.equal(decision[1], left_open.bool())
        decisions, where = task.decided(each)
        assert torch.equal(decisions.positive, left_open.bool())
        assert (where is None) == (each is batch)


def test_labels_of_unlabelled_rois_are_never_read():
    method = Lacuna(kind="lacuna", warmup_fraction=0, certainty=0.6, seen_voxels=1, **SHARED)
    task, batch = task_of(method), scored_batch(4)
    everything = replace(
        batch,
        planes=batch.planes | label_bits(~batch.labelled)[..., None, None, None],
    )
    assert not torch.equal(batch.labels, everything.labels)
    one, two = (task.losses(task.networks, each, 1.0) for each in (batch, everything))
    assert torch.equal(one.total, two.total)


def test_certain_pseudo_labels_wait_and_the_papers_terms_do_not():
    """With defaults: nothing until 0.3 of the training; in its middle, by the schedule, exp(−5 · 0.5²) of 50."""
    task, batch = task_of(Lacuna(kind="lacuna", certainty=0.6, seen_voxels=1, **SHARED)), scored_batch(4)
    early, risen, late = (task.losses(task.networks, batch, progress) for progress in (0.0, 0.4, 1.0))
    papers = early.terms["supervised"] + early.terms["latent"] + early.terms["consistency"]
    assert early.terms["latent"].count_nonzero()
    assert early.terms["consistency"].count_nonzero()
    assert late.terms["certain"].count_nonzero()
    torch.testing.assert_close(early.total, papers)
    torch.testing.assert_close(risen.total, papers + math.exp(-5 / 4) * 50 * late.terms["certain"])
    torch.testing.assert_close(late.total, papers + 50 * late.terms["certain"])


def test_a_roi_is_seen_at_voxels_that_labels_leave_open_alone():
    """Certain at two voxels, of which the label of one is known: seen with one voxel, not with two."""
    teacher = torch.tensor([5.0, 5.0, -5.0, 0.0], dtype=torch.float64).reshape(1, 1, 1, 1, 4)
    where = torch.tensor([True, False, True, True]).reshape(1, 1, 1, 1, 4)
    decisions = Decisions(flags(0), flags(1), flags(0), flags(0))
    losses = [
        certain_loss(
            torch.zeros_like(teacher), teacher, decisions, Lacuna(kind="lacuna", seen_voxels=n, **SHARED), where
        )
        for n in (1, 2)
    ]
    # Inside at the first voxel, outside at the third, over the three that are open.
    assert [loss.item() for loss in losses] == pytest.approx([2 / 3 * LN2, 0])
