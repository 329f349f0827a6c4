"""Learning rate and the weight of the teacher's terms over a training."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config.methods import Method
from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.training.schedule import learning_rate, teacher_weight


def method(warmup=0.0, rampup=0.0):
    return Method(encoder="words", latent="cross_entropy", warmup_fraction=warmup, rampup_fraction=rampup)


def test_the_papers_silence_is_full_weight_from_the_first_step():
    assert [teacher_weight(progress, method()) for progress in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_warmup_trains_on_labels_alone():
    late = method(warmup=0.25)
    assert teacher_weight(0.2499, late) == 0.0
    assert teacher_weight(0.25, late) == 1.0


def test_rampup_rises_after_the_warmup():
    slow = method(warmup=0.2, rampup=0.4)
    assert teacher_weight(0.1999, slow) == 0.0
    assert teacher_weight(0.2, slow) == pytest.approx(math.exp(-5))
    assert teacher_weight(0.4, slow) == pytest.approx(math.exp(-1.25))
    assert teacher_weight(0.6, slow) == teacher_weight(1.0, slow) == 1.0


@given(warmup=st.floats(0, 0.5), rampup=st.floats(0, 0.5), first=st.floats(0, 1), second=st.floats(0, 1))
def test_the_weight_never_falls_and_stays_between_0_and_1(warmup, rampup, first, second):
    earlier, later = sorted((first, second))
    weights = [teacher_weight(progress, method(warmup, rampup)) for progress in (earlier, later)]
    assert 0 <= weights[0] <= weights[1] <= 1


def test_cosine_annealing_without_warmup():
    optimisation = Optimisation(epochs=100, learning_rate=2e-4)
    rates = [learning_rate(epoch, optimisation) for epoch in (0, 25, 50, 100)]
    assert rates == pytest.approx([2e-4, 2e-4 * (1 + math.sqrt(0.5)) / 2, 1e-4, 0], abs=1e-18)


def test_learning_rate_warmup_meets_the_cosine():
    optimisation = Optimisation(epochs=110, warmup_epochs=10, learning_rate=1e-4)
    rates = [learning_rate(epoch, optimisation) for epoch in (0, 5, 9.999999, 10, 60, 110)]
    assert rates == pytest.approx([0, 5e-5, 1e-4, 1e-4, 5e-5, 0], rel=1e-6, abs=1e-18)
