"""What goes wrong in a training is said early, once, and not of trainings that do well."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline_lib.training.early_warnings import OneKindOfDecision, RoiLeftBehind, StuckLoss, TeacherBehind

KEY = "segmentation.learning_rate"


def losses(course, steps: int, watcher: StuckLoss | None = None, first: int = 1, last: int | None = None):
    """(step, warning) of a training whose loss after `step` of `steps` steps is course(step / steps)."""
    watcher = watcher or StuckLoss(steps, KEY)
    said = []
    for step in range(first, (last or steps) + 1):
        values = {"loss/supervised": course(step / steps), "loss/total": 1 + step}
        said += [(step, warning) for warning in watcher.note(step, values, 4)]
    return watcher, said


def test_a_loss_that_stays_is_told_after_three_tenths_with_the_key():
    random = np.random.default_rng(0)
    said = losses(lambda share: 0.7 + 0.2 * random.normal(), 500)[1]
    assert [step for step, _ in said] == [150]
    assert said[0][1].startswith("the loss does not fall: 0.")
    assert KEY in said[0][1]


def test_a_loss_that_falls_is_not_told_of():
    random = np.random.default_rng(0)
    assert losses(lambda share: 0.4 + 0.6 * np.exp(-8 * share) + 0.1 * random.normal(), 300)[1] == []


def test_a_loss_that_falls_and_rises_again_is_told_when_it_has():
    said = losses(lambda share: 1 - share if share < 0.5 else 1.2, 100)[1]
    assert [step for step, _ in said] == [60]


def test_a_short_training_proves_nothing():
    assert losses(lambda share: 1.0, 49)[1] == []
    assert len(losses(lambda share: 1.0, 50)[1]) == 1


def test_a_task_without_a_supervised_loss_is_judged_by_the_total():
    watcher = StuckLoss(100, "roi_aware.optimisation.learning_rate")
    said = [warning for step in range(1, 101) for warning in watcher.note(step, {"loss/total": 1.0}, 4)]
    assert len(said) == 1


def test_skipped_steps_have_no_loss():
    watcher = StuckLoss(100, KEY)
    assert [warning for step in range(1, 101) for warning in watcher.note(step, {}, 4)] == []


@pytest.mark.parametrize("stop", [5, 14, 29, 30, 31])
def test_a_resumed_watch_of_the_loss_says_what_it_would_have_said(stop):
    whole = losses(lambda share: 1.0, 100)[1]
    before, said = losses(lambda share: 1.0, 100, last=stop)
    after = StuckLoss(100, KEY)
    after.load_state_dict(before.state_dict())
    assert said + losses(lambda share: 1.0, 100, after, first=stop + 1)[1] == whole


def decisions(positive: float, negative: float, ambiguous: float, watcher=None, first=1, last=200):
    """(step, warning) where these shares of the samples have a decision of each kind about one ROI of two."""
    watcher = watcher or OneKindOfDecision()
    values = {"positive/liver": positive, "negative/liver": negative, "ambiguous/liver": ambiguous}
    values |= {f"{kind}/spleen": 0.0 for kind in ("positive", "negative", "ambiguous")} | {"labelled/spleen": 1.0}
    said = []
    for step in range(first, last + 1):
        said += [(step, warning) for warning in watcher.note(step, values, 10)]
    return watcher, said


@pytest.mark.parametrize("kind", ["positive", "negative", "ambiguous"])
def test_decisions_of_one_kind_are_told_once_after_a_thousand(kind):
    said = decisions(**{"positive": 0.0, "negative": 0.0, "ambiguous": 0.0, kind: 1.0})[1]
    assert [step for step, _ in said] == [100]
    assert said[0][1].startswith(f"100.0% of the decisions about unlabelled ROIs are {kind}, ")


def test_decisions_of_which_a_few_differ_are_not_told_of():
    assert decisions(0.015, 0.0, 0.985)[1] == []
    assert len(decisions(0.005, 0.0, 0.995)[1]) == 1


def test_a_task_that_decides_nothing_is_not_judged():
    watcher = OneKindOfDecision()
    values = {"positive/spleen": 1.0, "loss/total": 1.0}
    assert [warning for step in range(1, 500) for warning in watcher.note(step, values, 10)] == []


def test_a_resumed_watch_of_decisions_says_what_it_would_have_said():
    before, _ = decisions(0.0, 1.0, 0.0, last=60)
    after = OneKindOfDecision()
    after.load_state_dict(before.state_dict())
    assert [step for step, _ in decisions(0.0, 1.0, 0.0, after, first=61)[1]] == [100]


def validations(course, watcher=None, first=1, last=10):
    """(number, warning) of ten validations whose Dice per network and ROI is course(number)."""
    watcher = watcher or RoiLeftBehind()
    return watcher, [
        (number, warning) for number in range(first, last + 1) for warning in watcher.note(number / 10, course(number))
    ]


def without_spleen(number):
    return {"student": {"liver": number / 10, "pancreas": number / 10, "spleen": 0.0}}


def test_a_roi_whose_validation_dice_stays_at_0_while_others_rise_is_told_once():
    said = validations(without_spleen)[1]
    assert [number for number, _ in said] == [3]
    assert said[0][1].startswith("the validation Dice of spleen stays at 0, that of the other ROIs has risen to 0.30; ")
    assert "patches.foreground_fraction" in said[0][1]


def test_a_roi_that_rises_late_or_with_the_others_is_not_told_of():
    assert validations(lambda number: {"student": {"liver": 0.5, "spleen": 0.0 if number < 3 else 0.02}})[1] == []
    assert validations(lambda number: {"student": {"liver": 0.1, "spleen": 0.0}})[1] == [], "the others have not risen"
    assert validations(lambda number: {"student": {"spleen": 0.0}})[1] == [], "there are no others"


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_watch_of_rois_says_what_it_would_have_said(stop):
    before, said = validations(without_spleen, last=stop)
    after = RoiLeftBehind()
    after.load_state_dict(before.state_dict())
    assert said + validations(without_spleen, after, first=stop + 1)[1] == validations(without_spleen)[1]


def with_teacher(student, teacher):
    return lambda number: {"student": {"liver": student}, "teacher": {"liver": teacher}}


def test_a_teacher_that_is_worse_than_its_student_is_told_once_with_the_key():
    said = validations(with_teacher(0.6, 0.5), TeacherBehind())[1]
    assert [number for number, _ in said] == [3]
    assert said[0][1].startswith("the teacher is worse than its student: mean validation Dice 0.500 and 0.600; ")
    assert "teacher.decay" in said[0][1]


def test_a_teacher_that_is_as_good_or_was_worse_once_is_not_told_of():
    assert validations(with_teacher(0.6, 0.59), TeacherBehind())[1] == []
    assert validations(lambda number: with_teacher(0.6, 0.4 if number == 5 else 0.7)(number), TeacherBehind())[1] == []
    assert validations(lambda number: {"student": {"liver": 0.6}}, TeacherBehind())[1] == [], "there is no teacher"


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_watch_of_a_teacher_says_what_it_would_have_said(stop):
    whole = validations(with_teacher(0.6, 0.5), TeacherBehind())[1]
    before, said = validations(with_teacher(0.6, 0.5), TeacherBehind(), last=stop)
    after = TeacherBehind()
    after.load_state_dict(before.state_dict())
    assert said + validations(with_teacher(0.6, 0.5), after, first=stop + 1)[1] == whole
