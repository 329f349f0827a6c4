"""The lines of a run: one per stage and training, its failures, what its jobs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.tools.run_view import RunView


class World:
    """A working directory with logs, a clock, and the view of a run there."""

    def __init__(self, folder: Path, **totals: int) -> None:
        self.folder, self.seconds = folder, 1000.0
        self.view = RunView(totals, now=lambda: self.seconds)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def start(self, jobid: int, rule: str, **wildcards: str) -> None:
        name = str(jobid)
        self.log(name).unlink(missing_ok=True)
        self.view.start(jobid, rule, wildcards, str(self.log(name)))

    def say(self, jobid: int, *lines: str) -> None:
        with self.log(str(jobid)).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))


@pytest.fixture
def world(tmp_path):
    return lambda **totals: World(tmp_path, **totals)


def words(lines: list[str]) -> list[str]:
    """Lines with each run of spaces made one."""
    return [" ".join(line.split()) for line in lines]


def test_a_stage_of_many_jobs_has_one_line_with_the_time_that_is_left(world):
    run = world(resample=4)
    for jobid in (1, 2):
        run.start(jobid, "resample", dataset="a", case=f"c{jobid}")
    run.seconds += 10
    assert run.view.finish(1) == []
    run.start(3, "resample", dataset="a", case="c3")
    assert words(run.view.running()) == ["running resample 1/4 jobs, 2 running 0:10, 0:30 left"]
    run.view.finish(2)
    run.view.finish(3)
    run.start(4, "resample", dataset="a", case="c4")
    run.seconds += 20
    assert words(run.view.finish(4)) == ["done resample 4 jobs 0:30"]
    assert run.view.running() == []


def test_each_training_has_its_own_line_from_its_log(world):
    run = world(train=2)
    run.start(1, "train", run="baseline-seed0")
    run.start(2, "train", run="latent_class-seed0")
    run.say(1, "train baseline-seed0  step 5/50  10 %  0:20, 3:00 left  loss 0.9")
    run.view.poll()
    assert words(run.view.running()) == [
        "running train baseline-seed0 step 5/50 10 %, 3:00 left loss 0.9",
        "waiting train latent_class-seed0 0:00",
    ]
    run.seconds += 60
    run.say(1, "train baseline-seed0  step 50/50  100 %  3:20  loss 0.2")
    assert words(run.view.finish(1)) == ["done train baseline-seed0 1:00 loss 0.2"]


def test_jobs_that_are_half_done_count_by_their_share(world):
    run = world(predict=2)
    run.start(1, "predict", run="a", dataset="b")
    run.say(1, "predict a b  windows 5/10  50 %  0:10, 0:10 left  c0")
    run.view.poll()
    run.seconds += 10
    assert words(run.view.running()) == ["running predict 0/2 jobs, 1 running 0:10, 0:30 left"]


def test_what_jobs_say_is_shown_once_and_not_without_end(world):
    run = world(resample=3)
    for jobid in (1, 2, 3):
        run.start(jobid, "resample", case=str(jobid))
        run.say(jobid, "the same", *(f"note {jobid} {number}" for number in range(3)))
    assert run.view.poll() == ["the same", "note 1 0", "note 1 1", "note 1 2", "note 2 0"]
    lines = [line for jobid in (1, 2, 3) for line in run.view.finish(jobid)]
    assert lines[0] == "resample: and 5 more such lines, in logs/"
    assert lines[1].startswith("done")


def test_every_warning_is_shown_whatever_else_was_said(world):
    run = world(resample=1)
    run.start(1, "resample", case="1")
    notes = [f"note {number}" for number in range(7)]
    warnings = [f"warning: {number}" for number in range(7)]
    run.say(1, warnings[0], *notes[:6], *warnings[1:], notes[6], warnings[3])
    assert run.view.poll() == [warnings[0], *notes[:5], *warnings[1:]]
    assert run.view.finish(1)[0] == "resample: and 2 more such lines, in logs/"


def test_warnings_alone_leave_nothing_untold(world):
    run = world(resample=1)
    run.start(1, "resample", case="1")
    run.say(1, *(f"warning: {number}" for number in range(7)))
    assert len(run.view.poll()) == 7
    assert [line.split()[0] for line in run.view.finish(1)] == ["done"]


def test_what_validate_finds_is_shown_in_full(world):
    run = world(validate=1)
    run.start(1, "validate")
    run.say(1, *(f"finding {number}" for number in range(20)))
    assert len(run.view.poll()) == 20


def test_the_table_waits_for_the_end(world):
    run = world(write_report=1)
    run.start(1, "write_report")
    run.say(1, "write_report  figures 1/1  100 %  0:03  x", "method  average", "baseline  10.0")
    assert [line.split()[0] for line in run.view.finish(1)] == ["done"]
    assert run.view.last == ["method  average", "baseline  10.0"]


def test_a_failure_is_shown_in_full_with_its_log(world):
    run = world(embed=1, train=1)
    run.start(1, "embed", encoder="x")
    run.start(2, "train", run="a-seed0")
    run.seconds += 5
    run.say(1, "error: x: is wrong; mend it")
    assert words(run.view.fail([1])) == [
        "failed embed x after 0:05",
        f"error: x: is wrong; mend it [{run.log('1')}]",
    ]
    run.say(2, "Traceback (most recent call last):", "  File", "KeyError: 1")
    assert run.view.fail([2])[1:] == [
        "Traceback (most recent call last):",
        "  File",
        f"error: KeyError: 1 [{run.log('2')}]",
    ]
    assert len(run.view.failures) == 2


def test_a_job_that_died_without_a_word_is_told_by_the_clusters_log(world, tmp_path):
    run = world(train=1)
    run.start(1, "train", run="a-seed0")
    (tmp_path / "slurm.log").write_text("slurmstepd: oom-kill event\n")
    lines = run.view.fail([1], [str(tmp_path / "slurm.log")])
    assert lines[1] == f"error: slurmstepd: oom-kill event [{run.log('1')}]"


def test_a_job_that_died_without_any_log_is_named_all_the_same(world):
    run = world(train=1)
    run.start(1, "train", run="a-seed0")
    assert run.view.fail([1])[1] == f"error: the job ended without a message [{run.log('1')}]"


def test_of_jobs_that_a_cluster_ran_as_one_those_that_say_why_are_named(world):
    run = world(resample=4)
    for jobid in (1, 2, 3, 4):
        run.start(jobid, "resample", case=str(jobid))
    run.say(2, "error: c2 is damaged; replace it")
    assert words(run.view.fail([1, 2, 3])) == [
        "failed resample 2 after 0:00",
        f"error: c2 is damaged; replace it [{run.log('2')}]",
    ]
    assert words(run.view.running()) == ["running resample 0/4 jobs, 1 running 0:00"]
    assert run.view.queued() == {}
    assert run.view.fail([1]) == [], "its own event, after that of the group"
    for jobid in (1, 2, 3):
        run.start(jobid, "resample", case=str(jobid))
    assert not run.view.failures
    assert [words(run.view.finish(jobid)) for jobid in (1, 2, 3)] == [[], [], []]
    assert words(run.view.finish(4)) == ["done resample 4 jobs 0:00"]


def test_a_training_that_was_asked_to_stop_has_not_failed(world):
    run = world(train=1)
    run.start(1, "train", run="a-seed0")
    said = "train a-seed0: stopped as requested after step 15; run it again to resume"
    run.say(1, said, "train a-seed0  step 15/20  75 %  0:01, 0:01 left  loss 1")
    run.seconds += 60
    assert words(run.view.fail([1])) == [said, "stopped train a-seed0 after 1:00"]
    assert not run.view.failures


def test_a_failure_that_is_tried_again_is_no_failure_of_the_run(world):
    run = world(train=1)
    run.start(1, "train", run="a-seed0")
    run.say(1, "error: out of memory")
    run.view.fail([1])
    assert words(run.view.retry(1)) == ["again train a-seed0 is tried again"]
    assert run.view.failures
    run.start(1, "train", run="a-seed0")
    assert words(run.view.running()) == ["waiting train a-seed0 0:00"]
    run.say(1, "train a-seed0: already trained; restored from models/train/x")
    assert words(run.view.finish(1))[-1].endswith("already trained; restored from models/train/x")
    assert not run.view.failures


def test_without_a_terminal_a_third_more_or_an_hour_is_worth_a_line(world):
    run = world(train=1)
    run.start(1, "train", run="a-seed0")

    def after(seconds: float, step: int) -> list[str]:
        run.seconds += seconds
        run.say(1, f"train a-seed0  step {step}/100  {step} %  0:01, 0:01 left  loss 1")
        run.view.poll()
        return [line.split("step ")[1].split("/")[0] for line in run.view.plain()]

    assert after(5, 34) == []
    assert after(20, 35) == ["35"]
    assert after(30, 60) == []
    assert after(30, 70) == ["70"]
    assert after(3000, 71) == []
    assert after(700, 72) == ["72"]
    assert after(100, 100) == []
