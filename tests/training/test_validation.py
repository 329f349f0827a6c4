"""Held-out cases watch a training: the same Dice however it is run, stopped or killed, and no other weights."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline_lib.data.crops import TrainingCase
from pipeline_lib.inference.sliding_window import SlidingWindow
from pipeline_lib.training import validation as validation_module
from pipeline_lib.training.checkpoints import Checkpoints
from pipeline_lib.training.distributed import Distributed
from pipeline_lib.training.stopping import STOPPED, StopRequest
from pipeline_lib.training.validation import Validation
from tests.support.synthetic import WINDOW, write_case
from tests.support.tiny_training import ROIS, Tiny, assert_same_weights, in_processes

ALONE = Distributed(0, 1, torch.device("cpu"))
LABELLED = (("liver", "liver_tumor", "spleen"), ("spleen", "pancreas"), ROIS)


@pytest.fixture(scope="session")
def held_out(tmp_path_factory):
    """Three cases of different size that no crop is drawn from."""
    folder = tmp_path_factory.mktemp("held_out")
    cases = []
    for number, labelled in enumerate(LABELLED):
        name = f"held_{number}"
        write_case(folder, "tiny", name, ROIS, labelled, shape=(20 + 4 * number, 24, 28), seed=5)
        flags = np.isin(ROIS, labelled)
        cases.append(TrainingCase("tiny", name, folder / name, flags, np.empty((0, 3), np.int64)))
    return tuple(cases)


@pytest.fixture
def watched(tiny, held_out):
    """A training of ten steps, 12.5 crops of five cases, which is validated after every second epoch."""
    return replace(tiny, held_out=held_out)


@pytest.fixture(scope="session")
def watched_undisturbed(tiny_cases, held_out, tmp_path_factory):
    training = Tiny(tiny_cases, tmp_path_factory.mktemp("watched") / "work", held_out=held_out)
    assert in_processes(training.run) == [0]
    return training


def validated(training) -> dict[int, dict]:
    """Step → what its validation found, without the time that it took."""
    return {
        row["step"]: {key: value for key, value in row.items() if "validation_dice" in key}
        for row in training.history()
        if "seconds_validating" in row
    }


def test_each_validation_is_in_the_row_of_its_step(watched_undisturbed):
    """Ten steps of four crops of five cases are eight epochs: 2, 4, 6 and 8 end within steps 3, 5, 8 and 10."""
    found = validated(watched_undisturbed)
    assert list(found) == [3, 5, 8, 10]
    for entries in found.values():
        assert set(entries) == {
            "validation_dice",
            "validation_dice_mean",
            "teacher_validation_dice",
            "teacher_validation_dice_mean",
        }
        dice = entries["validation_dice"]
        assert set(dice) <= set(ROIS)
        assert entries["validation_dice_mean"] == pytest.approx(sum(dice.values()) / len(dice))
    assert [row["step"] for row in watched_undisturbed.history()] == list(range(1, 11))


def test_validation_changes_nothing_that_is_learned(watched_undisturbed, undisturbed):
    assert_same_weights(watched_undisturbed.weights(), undisturbed.weights())
    for row, expected in zip(watched_undisturbed.history(), undisturbed.history(), strict=True):
        assert row["loss"] == expected["loss"]


@pytest.mark.parametrize("count", [2, 3])
def test_processes_share_the_cases_and_find_the_same(count, watched, watched_undisturbed):
    assert in_processes(watched.run, count=count) == [0] * count
    for step, entries in validated(watched_undisturbed).items():
        shared = validated(watched)[step]
        assert shared["validation_dice"] == pytest.approx(entries["validation_dice"], abs=1e-3)
        assert shared["teacher_validation_dice_mean"] == pytest.approx(
            entries["teacher_validation_dice_mean"], abs=1e-3
        )


def run_struck(training, number: int, case: int) -> None:
    """Train; the process signals itself where the held-out case number `case` (of all validations) is predicted."""
    calls = 0
    original = validation_module.case_dice

    def strike(*arguments):
        nonlocal calls
        calls += 1
        if calls == case:
            os.kill(os.getpid(), number)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(validation_module, "case_dice", strike)
        training.run()


@pytest.mark.parametrize("case", [2, 10, 22])
def test_a_stop_during_validation_is_obeyed_and_the_validation_done_on_resume(case, watched, watched_undisturbed):
    """Six predictions a validation, three cases by student and teacher: the first, the second and the last one."""
    training = replace(watched, checkpoint_minutes=60)
    step = [3, 5, 8, 10][(case - 1) // 6]
    assert in_processes(run_struck, training, signal.SIGTERM, case) == [STOPPED]
    newest = Checkpoints(training.work / "checkpoints").newest()
    assert (newest["step"], newest["validation"]["done"]) == (step, max([0, *(s for s in (3, 5, 8) if s < step)]))
    assert not any(row["step"] == step for row in training.history())
    assert in_processes(training.run) == [0]
    assert validated(training) == validated(watched_undisturbed)
    assert [row["loss"] for row in training.history()] == [row["loss"] for row in watched_undisturbed.history()]
    assert_same_weights(training.weights(), watched_undisturbed.weights())


def test_a_training_killed_during_validation_finds_the_same(watched, watched_undisturbed):
    assert in_processes(run_struck, watched, signal.SIGKILL, 14) == [-signal.SIGKILL]
    assert in_processes(watched.run) == [0]
    assert validated(watched) == validated(watched_undisturbed)
    assert_same_weights(watched.weights(), watched_undisturbed.weights())


def test_processes_stop_together_when_one_is_asked_to_during_validation(watched):
    def run() -> None:
        if os.environ["RANK"] == "1":
            run_struck(watched, signal.SIGTERM, 2)
        else:
            watched.run()

    assert in_processes(run, count=2) == [STOPPED, STOPPED]
    assert in_processes(watched.run, count=2) == [0, 0]
    assert list(validated(watched)) == [3, 5, 8, 10]


class Worsening:
    """Spoils the networks from step `after` on, as an unlucky training would."""

    def __init__(self, after: int) -> None:
        self.after, self.steps = after, 0

    def __call__(self, task) -> None:
        original = task.after_update

        def after_update() -> None:
            original()
            self.steps += 1
            if self.steps == self.after:
                for network in (task.student, task.teacher.network):
                    for parameter in network.parameters():
                        parameter.data.fill_(-1.0)

        task.after_update = after_update


def test_the_best_networks_are_kept_if_asked_for_also_on_resume(watched, held_out):
    kept = replace(watched, keep_best=True, checkpoint_minutes=60)
    assert in_processes(kept.run, Worsening(6)) == [0]
    means = {step: entries["validation_dice_mean"] for step, entries in validated(kept).items()}
    best = max(means, key=means.get)
    assert best in (3, 5)
    assert means[10] == 0
    weights = kept.weights()
    assert all(value.isfinite().all() and not (value == -1).all() for value in weights.values())
    until = replace(watched, work=watched.work.with_name("until"), keep_best=True, checkpoint_minutes=60)
    assert in_processes(run_struck, until, signal.SIGTERM, 20) == [STOPPED]
    assert in_processes(until.run) == [0]
    again = replace(watched, work=watched.work.with_name("again"), keep_best=True, checkpoint_minutes=60)
    assert in_processes(again.run) == [0]
    assert_same_weights(until.weights(), again.weights())


def test_the_last_networks_are_kept_by_default(watched):
    assert in_processes(watched.run, Worsening(6)) == [0]
    assert validated(watched)[10]["validation_dice_mean"] == 0


class ByBrightness(torch.nn.Module):
    """Every ROI lies, to the network, where the image is bright."""

    def forward(self, image):
        return image.expand(-1, len(ROIS), -1, -1, -1) * 10


def validation_of(network, cases, plan, **changes):
    window = SlidingWindow((16, 12, 16), 0.0, 2, False, WINDOW, torch.device("cpu"), torch.float32)
    how = {"every_epochs": 2, "keep_best": False} | changes
    return Validation({"student": network}, cases, ROIS, window, plan, **how)


def test_a_network_trains_on_in_the_mode_that_it_had(held_out, tiny):
    network = ByBrightness().train()
    modes = []
    network.register_forward_pre_hook(lambda *_: modes.append(network.training))
    found = validation_of(network, held_out, tiny.plan).run(3, Distributed(0, 1, torch.device("cpu")), StopRequest())
    assert json.dumps(found.entries)
    assert not any(modes)
    assert network.training


def test_due_steps_come_once(held_out, tiny):
    watch = validation_of(ByBrightness(), held_out, tiny.plan)
    assert [step for step in range(11) if watch.is_due(step)] == [3, 5, 8, 10]
    watch.done = 5
    assert [step for step in range(11) if watch.is_due(step)] == [8, 10]


@pytest.fixture
def slow(monkeypatch):
    """A clock that moves only where it is told to, and validations that take ten seconds each."""
    clock = SimpleNamespace(now=0.0, predicted=0)

    def case_dice(*_):
        clock.now += 10 / len(LABELLED)
        return {"liver": 0.5}

    monkeypatch.setattr(validation_module.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(validation_module, "case_dice", case_dice)
    return clock


def validated_steps(watch, clock, seconds_per_step, first=1, distributed=ALONE) -> list[int]:
    """The steps after which cases were predicted, in a training of so many seconds a step."""
    done = []
    for step in range(first, 11):
        clock.now += seconds_per_step
        if watch.is_due(step):
            found = watch.run(step, distributed, StopRequest())
            done += [step] if found.entries else []
    return done


def test_validations_that_take_too_much_of_the_time_are_left_out(slow, held_out, tiny):
    """At 100 s a step: 10 of 310 s is 3.2 %; then 20 of 520 s 3.8 %, 20 of 820 s 2.4 %."""
    watch = validation_of(ByBrightness(), held_out, tiny.plan, max_time_share=0.03)
    assert validated_steps(watch, slow, 100) == [3, 8, 10]
    assert watch.clock.validating == pytest.approx(30)
    # The first and the last come whatever they take; without a limit, or if the best is kept, all do.
    assert validated_steps(validation_of(ByBrightness(), held_out, tiny.plan, max_time_share=0.03), slow, 1) == [3, 10]
    assert validated_steps(validation_of(ByBrightness(), held_out, tiny.plan), slow, 1) == [3, 5, 8, 10]
    best = validation_of(ByBrightness(), held_out, tiny.plan, max_time_share=0.03, keep_best=True)
    assert validated_steps(best, slow, 1) == [3, 5, 8, 10]


def test_a_resumed_training_remembers_the_time_that_validations_took(slow, held_out, tiny):
    first = validation_of(ByBrightness(), held_out, tiny.plan, max_time_share=0.03)
    slow.now += 300
    first.run(3, ALONE, StopRequest())
    state = first.state_dict()
    slow.now += 10_000  # nobody trained meanwhile
    again = validation_of(ByBrightness(), held_out, tiny.plan, max_time_share=0.03)
    again.load_state_dict(state)
    assert validated_steps(again, slow, 100, first=4) == [8, 10]


def test_the_clock_of_rank_0_decides_for_all(slow, held_out, tiny):
    class Second(Distributed):
        def all_gather(self, value):
            return [0.05, value]

    watch = validation_of(ByBrightness(), held_out, tiny.plan, max_time_share=0.03)
    assert watch.run(5, Second(1, 2, torch.device("cpu")), StopRequest()).entries == {}


def test_a_validation_that_is_left_out_is_said_once_and_costs_no_row(watched, capfd):
    watched = replace(watched, max_time_share=1e-9)
    watched.run()
    assert [row["step"] for row in watched.history()] == list(range(1, 11))
    assert list(validated(watched)) == [3, 10]
    assert capfd.readouterr().err.count("a validation is left out, as others may be: ") == 1
