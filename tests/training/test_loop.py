"""One result, however the training is run, stopped or killed."""

import errno
import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline_lib.data import reading
from pipeline_lib.errors import UserError
from pipeline_lib.training import checkpoints
from pipeline_lib.training.stopping import STOPPED
from tests.support.tiny_training import ROIS, Tiny, assert_same_weights, in_processes

PHASES = ("data", "forward", "backward", "optimiser", "teacher", "checkpoint", "checkpoint torn", "history")


def strike(phase: str, step: int, number: int, monkeypatch: pytest.MonkeyPatch):
    """Have the process signal itself when it is in `phase` of step `step`; returns `Tiny.run`'s preparation."""
    calls = 0
    calls_per_step = {"data": 4, "history": 2}.get(phase, 1)

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == step * calls_per_step + 1:
            os.kill(os.getpid(), number)

    def before(owner, name):
        original = getattr(owner, name)

        def counted(*arguments, **named):
            count()
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, counted)

    def torn_save(state, file):
        file.write(b"half of a checkpoint")
        file.flush()
        count()
        file.seek(0)
        original_save(state, file)

    original_save = torch.save
    if phase == "data":
        before(reading.CropReader, "read")
    elif phase == "optimiser":
        before(torch.optim.AdamW, "step")
    elif phase == "checkpoint":
        before(checkpoints.Checkpoints, "save")
    elif phase == "checkpoint torn":
        monkeypatch.setattr(torch, "save", torn_save)
    elif phase == "history":
        before(os, "fsync")

    def prepare(task) -> None:
        if phase == "forward":
            task.student.register_forward_hook(lambda *_: count())
        elif phase == "backward":
            next(task.student.parameters()).register_hook(lambda _: count())
        elif phase == "teacher":
            before(task, "after_update")

    return prepare


def random_steps(training: Tiny, phase: str, count: int) -> list[int]:
    return np.random.default_rng(list(phase.encode())).permutation(training.plan.steps)[:count].tolist()


def run_struck(training: Tiny, phase: str, step: int, number: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        training.run(strike(phase, step, number, monkeypatch))


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_training_ends_with_the_same_weights(phase, tiny, undisturbed):
    for step in random_steps(tiny, phase, 3):
        training = replace(tiny, work=tiny.work / str(step))
        training.work.mkdir(parents=True)
        assert in_processes(run_struck, training, phase, step, signal.SIGKILL) == [-signal.SIGKILL]
        assert in_processes(training.run) == [0]
        assert_same_weights(training.weights(), undisturbed.weights())


@pytest.mark.parametrize("phase", PHASES)
def test_a_training_asked_to_stop_saves_and_goes_on(phase, tiny, undisturbed):
    training = replace(tiny, checkpoint_minutes=1e-9 if phase in ("checkpoint", "checkpoint torn", "history") else 10)
    assert in_processes(run_struck, training, phase, 5, signal.SIGTERM) == [STOPPED]
    assert list((training.work / "checkpoints").glob("step-*.pt"))
    assert in_processes(training.run) == [0]
    assert_same_weights(training.weights(), undisturbed.weights())


def test_a_training_whose_newest_checkpoint_was_torn_ends_with_the_same_weights(tiny, undisturbed):
    assert in_processes(run_struck, tiny, "forward", 6, signal.SIGKILL) == [-signal.SIGKILL]
    newest = max((tiny.work / "checkpoints").glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert in_processes(tiny.run) == [0]
    assert_same_weights(tiny.weights(), undisturbed.weights())


def test_a_training_killed_after_the_disk_was_full_ends_with_the_same_weights(tiny, undisturbed):
    """From step 3 on each checkpoint is cut off by the disk, then a kill comes, then somebody makes room."""

    def run() -> None:
        saved = 0

        def save(state, file) -> None:
            nonlocal saved
            saved += 1
            if saved > 3:
                file.write(b"what found room")
                raise OSError(errno.ENOSPC, "No space left on device")
            original(state, file)

        original = torch.save
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(torch, "save", save)
            tiny.run(strike("teacher", 7, signal.SIGKILL, monkeypatch))

    assert in_processes(run) == [-signal.SIGKILL]
    found = sorted(path.name.split(".")[0] for path in (tiny.work / "checkpoints").glob("step-*"))
    assert found == ["step-00000002", "step-00000003"]
    assert in_processes(tiny.run) == [0]
    assert_same_weights(tiny.weights(), undisturbed.weights())
    assert [row["step"] for row in tiny.history()] == list(range(1, 11))


def test_processes_stop_together_when_one_is_asked_to(tiny, undisturbed):
    def run() -> None:
        if os.environ["RANK"] == "1":
            run_struck(tiny, "forward", 4, signal.SIGTERM)
        else:
            tiny.run()

    assert in_processes(run, count=2) == [STOPPED, STOPPED]
    assert in_processes(tiny.run, count=2) == [0, 0]
    for name, value in tiny.weights().items():
        torch.testing.assert_close(value, undisturbed.weights()[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("count, accumulation", [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)])
def test_processes_and_parts_change_nothing_but_rounding(count, accumulation, tiny, undisturbed_20):
    training = replace(tiny, epochs=16, gradient_accumulation_steps=accumulation, num_workers=count % 2)
    assert training.plan.steps == 20
    assert in_processes(training.run, count=count) == [0] * count
    for name, value in training.weights().items():
        torch.testing.assert_close(value, undisturbed_20.weights()[name], atol=1e-5, rtol=0)
    for row, expected in zip(training.history(), undisturbed_20.history(), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-5)
        assert row["positive"] == pytest.approx(expected["positive"])
        assert row["learning_rate"] == expected["learning_rate"]


@pytest.mark.parametrize(
    "first, second", [("contiguous_format", "channels_last_3d"), ("channels_last_3d", "contiguous_format")]
)
def test_a_training_goes_on_in_another_memory_format(first, second, tiny, undisturbed, monkeypatch):
    """Adam's moments follow: read in the wrong order they would belong to other weights."""

    def run(order: str, last_step: int | None = None) -> None:
        def prepare(task) -> None:
            for network in (task.student, task.teacher.network):
                network.to(memory_format=getattr(torch, order))
            if last_step is not None:
                strike("teacher", last_step, signal.SIGTERM, monkeypatch)(task)

        tiny.run(prepare)

    assert in_processes(run, first, 4) == [STOPPED]
    assert in_processes(run, second) == [0]
    for name, value in tiny.weights().items():
        torch.testing.assert_close(value, undisturbed.weights()[name], atol=1e-5, rtol=0)


def test_a_batch_that_processes_do_not_divide_evenly_is_shared_too(tiny, undisturbed):
    assert in_processes(tiny.run, count=3) == [0, 0, 0]
    for name, value in tiny.weights().items():
        torch.testing.assert_close(value, undisturbed.weights()[name], atol=1e-5, rtol=0)


def test_more_processes_than_samples_are_refused(tiny):
    def run() -> None:
        with pytest.raises(
            UserError, match=r"tiny\.batch_size: is 1, but 2 processes share it; raise it or start fewer"
        ):
            replace(tiny, batch_size=1).run()

    assert in_processes(run, count=2) == [0, 0]


def test_bfloat16_is_refused_where_its_gradients_are_wrong(tiny, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    with pytest.raises(UserError, match=r"^tiny\.execution\.precision: is bfloat16, .* without AMX; set it to auto"):
        replace(tiny, precision="bfloat16").run()


def test_workers_change_nothing(tiny, undisturbed):
    training = replace(tiny, num_workers=2)
    training.run()
    assert_same_weights(training.weights(), undisturbed.weights())


def test_a_finished_training_takes_no_further_step(tiny, undisturbed):
    tiny.run()

    def no_step(task) -> None:
        task.student.register_forward_hook(lambda *_: pytest.fail("a step was taken"))

    tiny.run(no_step)
    assert_same_weights(tiny.weights(), undisturbed.weights())


def test_history_tells_each_step_once_however_often_it_was_killed(tiny, undisturbed):
    for step in (2, 5, 7):
        in_processes(run_struck, tiny, "teacher", step, signal.SIGKILL)
    tiny.run()
    assert [row["step"] for row in tiny.history()] == list(range(1, 11))
    assert [row["loss"] for row in tiny.history()] == [row["loss"] for row in undisturbed.history()]


def poison(task, first: int, last: int) -> None:
    """Make the loss of the second sample NaN in the forward passes `first` to `last`."""
    calls = 0

    def hook(network, inputs, logits):
        nonlocal calls
        calls += 1
        if first <= calls <= last:
            logits = logits.clone()
            logits[1] = torch.nan
        return logits

    task.student.register_forward_hook(hook)


def test_a_non_finite_step_is_skipped_and_told(tiny, capfd):
    before_and_after = []

    def prepare(task) -> None:
        poison(task, 3, 3)
        task.student.register_forward_pre_hook(
            lambda *_: before_and_after.append(task.student.layers[0].weight.detach().clone())
        )

    task = tiny.run(prepare)
    assert torch.equal(before_and_after[2], before_and_after[3])
    assert not torch.equal(before_and_after[3], before_and_after[4])
    assert all(value.isfinite().all() for value in task.student.state_dict().values())
    culprit = tiny.reader().read(2 * tiny.batch_size + 1).name
    assert f"step 2: skipped, non-finite loss in {culprit}\n" in capfd.readouterr().err
    assert [row["skipped_steps"] for row in tiny.history()] == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert "loss" not in tiny.history()[2]


def test_too_many_non_finite_steps_stop_with_the_crops_that_caused_it(tiny):
    culprit = tiny.reader().read(4 * tiny.batch_size + 1).name
    with pytest.raises(UserError, match=f"^tiny, step 4: non-finite loss in {culprit}, after 2 steps"):
        tiny.run(lambda task: poison(task, 3, 9))


def test_skipped_steps_are_counted_across_a_resume_and_agreed_by_all(tiny):
    def run(strike_at: int | None) -> None:
        def prepare(task) -> None:
            if os.environ["RANK"] == "1":
                poison(task, 1, 3)
            if strike_at is not None:
                task.student.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))

        try:
            tiny.run(prepare)
        except UserError as error:
            assert "after 2 steps" in str(error)
            os._exit(99)

    assert in_processes(run, 0, count=2) == [STOPPED, STOPPED]
    assert in_processes(run, None, count=2) == [99, 2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_memory_that_no_division_saves_names_the_keys_to_change(tiny, error, capfd):
    def fail(*_) -> None:
        raise error

    with pytest.raises(
        UserError,
        match=r"^tiny: out of memory with one sample at a time; set tiny\.execution\.gradient_checkpointing to all, "
        r"or lower patches\.size_voxels$",
    ):
        tiny.run(lambda task: task.student.register_forward_hook(fail))
    assert capfd.readouterr().err.count("out of memory with gradient_accumulation_steps") == 2  # 1, then 2 of 4


def little_memory(task, samples: int = 1, calls: list[int] | None = None) -> None:
    """Let the student of `task` have memory for so many `samples` at once; `calls` are told how many each time."""

    def fail(network, inputs, logits) -> None:
        if calls is not None:
            calls.append(len(logits))
        if len(logits) > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    task.student.register_forward_hook(fail)


def test_a_step_that_runs_out_of_memory_is_taken_again_in_more_parts(tiny, undisturbed, capfd):
    """In the second half of the batch of step 4: what the first half left is forgotten, no step lost or taken twice."""
    calls = 0

    def fail(*_) -> None:
        nonlocal calls
        calls += 1
        if calls == 4 * 2 + 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    halved = replace(tiny, gradient_accumulation_steps=2)
    halved.run(lambda task: task.student.register_forward_hook(fail))
    said = capfd.readouterr().err
    assert "tiny, step 4: out of memory with gradient_accumulation_steps 2; 4 from here on" in said
    assert calls == 4 * 2 + 2 + 6 * 4
    assert [row["step"] for row in tiny.history()] == list(range(1, 11))
    for name, value in tiny.weights().items():
        torch.testing.assert_close(value, undisturbed.weights()[name], atol=1e-5, rtol=0)


def test_processes_divide_their_batches_together(tiny, capfd):
    """Rank 1 alone has too little memory: both take what fits it, and end as if told so from the start."""

    def run() -> None:
        calls: list[int] = []
        rank = int(os.environ["RANK"])
        tiny.run(lambda task: little_memory(task, samples=2 - rank, calls=calls))
        (tiny.work / f"calls {rank}").write_text(str(calls))

    told = replace(tiny, gradient_accumulation_steps=2, work=tiny.work / "told")
    tiny.work.mkdir(exist_ok=True)
    assert in_processes(run, count=2) == [0, 0]
    said = capfd.readouterr().err
    assert said.count("out of memory with gradient_accumulation_steps 1; 2 from here on") == 1
    # One trial of two samples, and one of them one by one, before ten steps.
    assert (tiny.work / "calls 0").read_text() == str([2] + 11 * [1, 1])
    assert in_processes(told.run, count=2) == [0, 0]
    assert_same_weights(tiny.weights(), told.weights())


def test_processes_with_nothing_left_to_divide_end_together(tiny, capfd):
    def run() -> None:
        little = 2 - 2 * int(os.environ["RANK"])
        try:
            tiny.run(lambda task: little_memory(task, samples=little))
        except UserError as error:
            assert "with one sample at a time; set tiny.execution.gradient_checkpointing" in str(error)
            raise SystemExit(error.exit_code) from error

    assert in_processes(run, count=2) == [UserError.exit_code] * 2


def test_other_runtime_errors_stay_bugs(tiny):
    def fail(*_) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        tiny.run(lambda task: task.student.register_forward_hook(fail))


def test_processes_that_see_different_checkpoints_are_refused(tiny):
    tiny.run()

    def run() -> None:
        work = tiny.work if os.environ["RANK"] == "0" else tiny.work / "another disk"
        with pytest.raises(UserError, match=r"checkpoints of steps 10, 0 as seen by ranks .* that all nodes share"):
            replace(tiny, work=work).run()

    assert in_processes(run, count=2) == [0, 0]


def test_a_training_that_waits_for_its_crops_obeys_a_stop(tiny, undisturbed):
    """A file system that hangs, say: the checkpoint is written and the process ends, though a worker never answers."""
    read = reading.CropReader.read

    def hang(reader, sample):
        if sample >= 3 * tiny.batch_size:
            time.sleep(3600)
        return read(reader, sample)

    def run() -> None:
        threading.Timer(3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(reading.CropReader, "read", hang)
            replace(tiny, num_workers=2, checkpoint_minutes=60).run()

    started = time.monotonic()
    assert in_processes(run) == [STOPPED]
    assert time.monotonic() - started < 60
    assert [path.name.split(".")[0] for path in (tiny.work / "checkpoints").glob("step-*")] == ["step-00000003"]
    assert in_processes(tiny.run) == [0]
    assert_same_weights(tiny.weights(), undisturbed.weights())


def test_a_roi_that_is_never_found_is_told_and_noted_in_the_history(tiny, capfd):
    def prepare(task) -> None:
        def without_spleen(network, inputs, logits):
            logits = logits.clone()
            logits[:, ROIS.index("spleen")] = -20.0
            return logits

        task.student.register_forward_hook(without_spleen)

    training = replace(tiny, epochs=200, num_workers=0, checkpoint_minutes=60)
    training.run(prepare)
    said = [line for line in capfd.readouterr().err.splitlines() if "is not learned" in line]
    assert len(said) == 1
    assert (
        "warning: tiny, step 75: spleen is not learned: its mean probability inside its own labels was 0.00%" in said[0]
    )
    rows = training.history()
    assert "not_learned" not in rows[73]
    assert {row["not_learned"] for row in rows[75:]} == {"spleen"}
