"""Sharpening of the teacher's output."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.methods.sharpening import sharpened_probabilities
from pipeline_lib.networks.probabilities import probabilities


@given(logit=st.floats(-20, 20), temperature=st.floats(0.1, 1))
def test_sharpening_is_equation_2s_formula(logit, temperature):
    p = 1 / (1 + math.exp(-logit))
    power = 1 / temperature
    expected = p**power / (p**power + (1 - p) ** power)
    mine = sharpened_probabilities(torch.tensor(logit, dtype=torch.float64), temperature).item()
    assert mine == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_temperature_1_leaves_the_output_as_it_is():
    logits = torch.linspace(-5, 5, 11)
    assert torch.equal(sharpened_probabilities(logits, 1.0), probabilities(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_extreme_logits_of_half_precision_stay_finite(dtype):
    logits = torch.tensor([-60000.0, -8.0, 0.0, 8.0, 60000.0], dtype=dtype)
    assert sharpened_probabilities(logits, 0.1).isfinite().all()
