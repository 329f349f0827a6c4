"""The weight of the teacher's terms over a training."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.methods.ramp_up import teacher_weight


def test_the_papers_silence_is_full_weight_from_the_first_step():
    assert [teacher_weight(progress, 0.0, 0.0) for progress in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_warmup_trains_on_labels_alone():
    assert teacher_weight(0.2499, 0.25, 0.0) == 0.0
    assert teacher_weight(0.25, 0.25, 0.0) == 1.0


def test_rampup_rises_after_the_warmup():
    assert teacher_weight(0.1999, 0.2, 0.4) == 0.0
    assert teacher_weight(0.2, 0.2, 0.4) == pytest.approx(math.exp(-5))
    assert teacher_weight(0.4, 0.2, 0.4) == pytest.approx(math.exp(-1.25))
    assert teacher_weight(0.6, 0.2, 0.4) == teacher_weight(1.0, 0.2, 0.4) == 1.0


@given(warmup=st.floats(0, 0.5), rampup=st.floats(0, 0.5), first=st.floats(0, 1), second=st.floats(0, 1))
def test_the_weight_never_falls_and_stays_between_0_and_1(warmup, rampup, first, second):
    earlier, later = sorted((first, second))
    weights = [teacher_weight(progress, warmup, rampup) for progress in (earlier, later)]
    assert 0 <= weights[0] <= weights[1] <= 1
