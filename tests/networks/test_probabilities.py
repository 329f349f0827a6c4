"""Logits to probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from pipeline_lib.networks.probabilities import probabilities


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_float32_probabilities(dtype):
    logits = torch.tensor([-60000.0, -8.0, 0.0, 8.0, 60000.0], dtype=dtype)
    mine = probabilities(logits)
    assert mine.dtype == torch.float32
    assert mine.tolist() == pytest.approx([0, 1 / (1 + math.exp(8)), 0.5, 1 / (1 + math.exp(-8)), 1], rel=1e-6)


def test_float64_stays_float64():
    assert probabilities(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_rois_may_overlap():
    """A voxel of a tumour is a voxel of its organ: no softmax over the ROIs."""
    assert (probabilities(torch.full((1, 3, 1, 1, 1), 9.0)) > 0.99).all()
