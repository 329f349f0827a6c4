"""Hermes' losses against a worked example and a naive loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipeline_lib.methods.hermes.settings import Hermes
from pipeline_lib.methods.hermes.task import HermesTask, adaptive_tversky
from tests.support.partial_labels import ROIS, Scaled, drawn_batch, task_of, voxels

SHARED = {"kind": "hermes", "network": "n", "encoder": "e"}


def test_a_worked_example():
    """p = 3/4 inside and 1/2 outside: TP 3/4, FP 1/2, FN 1/4, so α = 2/3, and 3/4 / (3/4 + 1/3 + 1/12) = 9/14."""
    p = torch.tensor([[0.75, 0.5]], dtype=torch.float64, requires_grad=True)
    loss = adaptive_tversky(p, torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert loss.tolist() == pytest.approx([5 / 14], abs=1e-5)
    loss.backward()
    # The denominator D = 7/6 is TP + (FP² + FN²) / (FP + FN), whose second part changes by 7/9 with FP and by 1/9 with
    # FN. So TP/D changes by (D − 3/4 · (1 − 1/9)) / D² = 18/49 with the first p, and with the other by
    # −3/4 · 7/9 / D² = −3/7.
    np.testing.assert_allclose(p.grad, [[-18 / 49, 3 / 7]], atol=1e-5)


@pytest.mark.parametrize(("p", "alpha"), [([0.9, 0.9], 0.8), ([0.1, 0.01], 0.2)])
def test_the_weights_stay_within_their_bounds(p, alpha):
    y = torch.tensor([[1.0, 0.0]])
    false_positive, false_negative = p[1], 1 - p[0]
    expected = 1 - p[0] / (p[0] + alpha * false_positive + (1 - alpha) * false_negative)
    assert adaptive_tversky(torch.tensor([p]), y).item() == pytest.approx(expected, abs=1e-5)


def test_an_absent_roi_costs_one_and_has_no_gradient():
    p = torch.tensor([[0.3, 0.6]], requires_grad=True)
    loss = adaptive_tversky(p, torch.zeros(1, 2))
    loss.backward()
    assert loss.tolist() == [1.0]
    assert torch.count_nonzero(p.grad) == 0


def naive(logits, labels, labelled):
    values = []
    for z, truth, known in zip(logits, labels, labelled.tolist(), strict=True):
        entropies, losses = [], []
        for k in (k for k, yes in enumerate(known) if yes):
            p = [1 / (1 + math.exp(-voxel[k])) for voxel in voxels(z)]
            y = [voxel[k] for voxel in voxels(truth)]
            pairs = list(zip(p, y, strict=True))
            entropies.append(-np.mean([math.log(a if b else 1 - a) for a, b in pairs]))
            tp = sum(a for a, b in pairs if b)
            fp = sum(a for a, b in pairs if not b)
            fn = sum(1 - a for a, b in pairs if b)
            alpha = min(max(fp / (fp + fn + 1e-6), 0.2), 0.8)
            losses.append(1 - tp / (tp + alpha * fp + (1 - alpha) * fn + 1e-6))
        values.append(np.mean(entropies) + np.mean(losses) if losses else 0.0)
    return values


@pytest.mark.parametrize("seed", range(5))
def test_the_task_adds_both_terms_of_labelled_rois(seed):
    batch = drawn_batch(seed)
    task = task_of(Hermes(**SHARED))
    losses = task.losses(task.networks, batch, 0.0)
    expected = naive(Scaled()(batch.strong).detach(), batch.labels, batch.labelled)
    np.testing.assert_allclose(losses.total.detach(), expected, atol=1e-9)
    assert set(losses.terms) == set(Hermes.terms)
    assert set(task.predictors()) == {"student", "teacher"}


def test_its_network_is_asked_for_the_labelled_rois():
    class Asked(Scaled):
        asks_for_labelled = True

        def forward(self, image, asked):
            self.asked = asked
            return super().forward(image)

    batch, network = drawn_batch(0), Asked()
    task = HermesTask(network, ROIS, task_of(Hermes(**SHARED)).teacher.settings)
    task.losses(task.networks, batch, 0.0)
    assert torch.equal(network.asked, batch.labelled)
