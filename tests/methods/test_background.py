"""The lower bound: unlabelled ROIs are taught as absent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.methods.background.settings import Background
from pipeline_lib.methods.background.task import background_loss
from tests.support.partial_labels import drawn, losses_of, voxels


def test_a_worked_example():
    """Two voxels; the liver is labelled, and is the first. The spleen is not, whatever its bits say.

    Liver, P = 3/4 and 1/2: cross-entropy (ln 4/3 + ln 2) / 2, Dice 2 · 3/4 / (5/4 + 1 + 1) = 6/13. Spleen, P = 1/2:
    cross-entropy ln 2, and Dice 0, since it is taught to be nowhere.
    """
    logits = torch.tensor([[math.log(3), 0], [0, 0]], dtype=torch.float64).reshape(1, 2, 1, 1, 2).requires_grad_()
    labels = torch.tensor([[True, False], [True, True]]).reshape(1, 2, 1, 1, 2)
    loss = background_loss(logits, labels, torch.tensor([[True, False]]), SupervisedLoss())
    liver, spleen = (math.log(4 / 3) + math.log(2)) / 2 + 7 / 13, math.log(2) + 1
    assert loss.tolist() == pytest.approx([(liver + spleen) / 2])
    loss.backward()
    # σ of the spleen's logits, over two voxels and two ROIs; no gradient from Dice.
    assert logits.grad[0, 1].flatten().tolist() == pytest.approx([1 / 8, 1 / 8])


def naive(logits, labels, labelled):
    values = []
    for z, truth, known in zip(logits, labels, labelled.tolist(), strict=True):
        of_rois = []
        for k, taught in enumerate(known):
            p = [1 / (1 + math.exp(-voxel[k])) for voxel in voxels(z)]
            y = [taught and voxel[k] for voxel in voxels(truth)]
            entropy = -np.mean([math.log(a if b else 1 - a) for a, b in zip(p, y, strict=True)])
            of_rois.append(entropy + 1 - 2 * np.dot(p, y) / (sum(p) + sum(y) + 1))
        values.append(np.mean(of_rois))
    return values


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_loss_equals_its_loop(seed):
    logits, labels, labelled = drawn(seed)
    found = background_loss(logits, labels, labelled, SupervisedLoss())
    np.testing.assert_allclose(found, naive(logits, labels, labelled), atol=1e-9)


def test_the_task_has_this_loss():
    losses, logits, labels, labelled = losses_of(Background(kind="background", network="n", encoder="e"), 3)
    np.testing.assert_allclose(losses.total.detach(), naive(logits, labels, labelled), atol=1e-9)
