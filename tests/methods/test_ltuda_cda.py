"""LTUDA's first stage: exclusive hard pseudo labels and mixed samples, against worked examples and a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.methods.cutmix import draw_box
from pipeline_lib.methods.ltuda_cda.settings import LtudaCda
from pipeline_lib.methods.ltuda_cda.task import hard_targets, label_loss, target_loss
from pipeline_lib.methods.supervised_loss import supervised_loss
from tests.support.partial_labels import RIVALS, Scaled, drawn, drawn_batch, naive_target, task_of

SHARED = {"kind": "ltuda_cda", "network": "n", "encoder": "e"}
LN2, LN3 = math.log(2), math.log(3)


def maps(*values, dtype=torch.float64):
    """Samples × ROIs × two voxels as B K 1 1 2."""
    return torch.tensor(values, dtype=dtype)[:, :, None, None, :]


def test_worked_targets():
    """Liver and spleen are rivals. The first sample labels the liver at its first voxel, the second the spleen at its
    second. The spleen that the teacher sees in the liver is no target; beside it, it is. Nor is a liver in the spleen.
    """
    labels = maps([[1, 0], [1, 1]], [[1, 1], [0, 1]], dtype=torch.bool)
    labelled = torch.tensor([[True, False], [False, True]])
    teacher = maps([[0, 0], [2, 1]], [[-1, 3], [0, 0]])
    targets = hard_targets(teacher, labels, labelled, ((1,), (0,)))
    assert targets.flatten(2).tolist() == [[[True, False], [False, True]], [[False, False], [False, True]]]


def test_of_two_unlabelled_rivals_the_likelier_is_the_target():
    teacher = maps([[1, 2], [2, 1], [-1, -3]])
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    rivals = ((1, 2), (0, 2), (0, 1))
    targets = hard_targets(teacher, torch.ones_like(teacher, dtype=torch.bool), nothing, rivals)
    assert targets.flatten(2).tolist() == [[[False, True], [True, False], [False, False]]]


def test_worked_losses_of_mixed_samples():
    """The first voxel of the first sample is from the second, which labels the spleen instead of the liver.

    All targets there are 0, and at the second voxel the spleen's is 1. Logits 0 cost ln 2 whatever the target, logits
    ln 3 with target 0 cost ln 4. Labels count for the spleen at the first and for the liver at the second voxel.
    """
    logits = maps([[0, LN3], [LN3, 0]], [[0, 0], [0, 0]]).requires_grad_()
    targets = maps([[0, 0], [0, 1]], [[0, 0], [0, 0]], dtype=torch.bool)
    labels = maps([[1, 0], [1, 1]], [[1, 1], [0, 1]], dtype=torch.bool)
    labelled = torch.tensor([[True, False], [False, True]])
    box = torch.tensor([[True, False], [False, False]])[:, None, None, None, :]
    of_targets = target_loss(logits, targets)
    of_labels = label_loss(logits, labels, labelled, box)
    assert of_targets.tolist() == pytest.approx([(2 * LN2 + 2 * math.log(4)) / 4, LN2])
    # The second sample: ln 2 for the spleen at both voxels, over the two ROIs that it or its partner labels.
    assert of_labels.tolist() == pytest.approx([(math.log(4) / 2 + math.log(4) / 2) / 2, LN2 / 2])
    (by_targets,) = torch.autograd.grad(of_targets[0], logits)
    (by_labels,) = torch.autograd.grad(of_labels[0], logits)
    # σ less the target: 1/2, 3/4 and −1/2, over four; where labels count 3/4, over two voxels and two ROIs.
    np.testing.assert_allclose(by_targets[0].flatten(1), [[1 / 8, 3 / 16], [3 / 16, -1 / 8]], atol=1e-12)
    np.testing.assert_allclose(by_labels[0].flatten(1), [[0, 3 / 16], [3 / 16, 0]], atol=1e-12)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def entropy(logit, target):
    return -math.log(sigmoid(logit if target else -logit))


def naive_copy(batch, view, weights, teacher):
    """Both terms of one mixed copy of each sample, a voxel at a time."""
    labels, labelled, shape = batch.labels, batch.labelled, tuple(batch.strong.shape[2:])
    found = []
    for b in range(3):
        after = (b + 1) % 3
        inside = np.zeros(shape, bool)
        inside[draw_box(shape, 11, batch.samples[b], view)] = True
        pseudo, known = [], np.zeros(4)
        for voxel in np.ndindex(shape):
            source = after if inside[voxel] else b
            for k in range(4):
                logit = weights[k] * float(batch.strong[source, 0][voxel])
                pseudo.append(entropy(logit, naive_target(source, k, voxel, teacher, labels, labelled)))
                if labelled[source, k]:
                    known[k] += entropy(logit, bool(labels[source, k][voxel])) / math.prod(shape)
        rois = int((labelled[b] | labelled[after]).sum())
        found.append([np.mean(pseudo), known.sum() / max(rois, 1)])
    return np.array(found).T


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("views", [1, 2])
def test_the_task_adds_both_terms_of_each_copy_to_equation_1(views, seed):
    weak = torch.tensor(np.random.default_rng(100 + seed).normal(size=(3, 1, 2, 3, 2)))
    batch = drawn_batch(seed, weak)
    method = LtudaCda(mixed_views=views, mixed_weight=0.7, warmup_fraction=0.5, **SHARED)
    task = task_of(method, seed=11)
    task.predictors()["teacher"].weights.copy_(torch.tensor([0.5, 1.0, -2.0, 1.5]))
    weights = Scaled().weights.tolist()
    teacher = weak * torch.tensor([0.5, 1.0, -2.0, 1.5])[:, None, None, None]
    copies = [naive_copy(batch, view, weights, teacher) for view in range(views)]
    pseudo, mixed = (sum(copy[term] for copy in copies) for term in (0, 1))
    eq_1 = supervised_loss(Scaled()(batch.strong), batch.labels, batch.labelled, SupervisedLoss()).detach().numpy()
    late = task.losses(task.networks, batch, 0.6)
    np.testing.assert_allclose(late.total.detach(), eq_1 + 0.7 * (pseudo + mixed), rtol=1e-6)
    np.testing.assert_allclose(late.terms["pseudo"].detach(), pseudo, rtol=1e-6)
    # The teacher's term waits for the warm-up; mixed labels do not need it.
    early = task.losses(task.networks, batch, 0.4)
    np.testing.assert_allclose(early.total.detach(), eq_1 + 0.7 * mixed, rtol=1e-6)
    assert set(early.terms) == set(LtudaCda.terms)


def test_labels_of_unlabelled_rois_are_never_read():
    logits, labels, labelled = drawn(2)
    box = torch.rand(3, 1, 2, 3, 2, generator=torch.Generator().manual_seed(0)) < 0.4
    other = labels ^ ~labelled[:, :, None, None, None]
    for one, two in (
        (hard_targets(logits, labels, labelled, RIVALS), hard_targets(logits, other, labelled, RIVALS)),
        (label_loss(logits, labels, labelled, box), label_loss(logits, other, labelled, box)),
    ):
        assert torch.equal(one, two)
