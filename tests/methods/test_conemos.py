"""CoNeMOS: each sample teaches one of the ROIs that it labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from pipeline_lib.config.method_settings import SupervisedLoss
from pipeline_lib.methods.conemos.settings import Conemos
from pipeline_lib.methods.conemos.task import ConemosTask, drawn_rois
from pipeline_lib.methods.supervised_loss import supervised_loss
from tests.support.partial_labels import ROIS, Scaled, drawn_batch


class Asked(Scaled):
    """The logits of the ROIs that are asked for."""

    def forward(self, image, rois):
        return super().forward(image)[torch.arange(len(rois)), rois][:, None]


def test_every_labelled_roi_is_drawn_equally_often_and_no_other():
    labelled = torch.tensor([[True, False, True, True]])
    counts = Counter(int(drawn_rois(labelled, 0, (sample,))) for sample in range(3000))
    assert set(counts) == {0, 2, 3}
    # Four standard deviations of a share of a third are 0.035.
    assert all(count / 3000 == pytest.approx(1 / 3, abs=0.035) for count in counts.values())


def test_a_draw_is_keyed_by_seed_and_sample_and_not_by_the_batch():
    labelled = torch.ones(50, 4, dtype=torch.bool)
    samples = tuple(range(50))
    together = drawn_rois(labelled, 3, samples).tolist()
    assert together == [int(drawn_rois(labelled[:1], 3, (sample,))) for sample in samples]
    assert together != drawn_rois(labelled, 4, samples).tolist()


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_equation_1_of_the_drawn_rois(seed):
    batch = drawn_batch(seed)
    batch.labelled[:, 1] = True
    task = ConemosTask(student=Asked(), names=ROIS, supervised=SupervisedLoss(), seed=5)
    losses = task.losses(task.networks, batch, 0.0)
    rois = drawn_rois(batch.labelled, 5, batch.samples)
    drawn = torch.zeros(3, 4, dtype=torch.bool)
    drawn[torch.arange(3), rois] = True
    expected = supervised_loss(Scaled()(batch.strong), batch.labels, drawn, SupervisedLoss())
    np.testing.assert_allclose(losses.total.detach(), expected.detach(), rtol=1e-12)
    assert losses.counts["labelled"] is batch.labelled
    assert torch.equal(losses.counts["present"], drawn & batch.labels.flatten(2).any(2))
    assert set(losses.terms) == set(Conemos.terms)
