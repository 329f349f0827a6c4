"""Learning rate over a training."""

from __future__ import annotations

import math

import pytest

from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.training.schedule import learning_rate


def test_cosine_annealing_without_warmup():
    optimisation = Optimisation(epochs=100, learning_rate=2e-4)
    rates = [learning_rate(epoch, optimisation) for epoch in (0, 25, 50, 100)]
    assert rates == pytest.approx([2e-4, 2e-4 * (1 + math.sqrt(0.5)) / 2, 1e-4, 0], abs=1e-18)


def test_learning_rate_warmup_meets_the_cosine():
    optimisation = Optimisation(epochs=110, warmup_epochs=10, learning_rate=1e-4)
    rates = [learning_rate(epoch, optimisation) for epoch in (0, 5, 9.999999, 10, 60, 110)]
    assert rates == pytest.approx([0, 5e-5, 1e-4, 1e-4, 5e-5, 0], rel=1e-6, abs=1e-18)
