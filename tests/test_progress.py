"""How far a stage is: on a terminal, in a pipe and in the log."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_on_a_terminal_one_line_is_rewritten(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    counted = progress.Progress("train", 4, "step")
    for _ in range(4):
        clock[0] += 30
        counted.advance(note="loss 0.5")
    lines = terminal.getvalue().split("\r\x1b[2K")[1:]
    assert lines[0] == "train  step 1/4  25 %  0:30, 1:30 left  loss 0.5"
    assert lines[3] == "train  step 4/4  100 %  2:00  loss 0.5\n"
    assert "\n" not in "".join(lines[:3])


def test_a_log_that_cannot_be_written_hides_nothing_and_ends_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_log", None)
    monkeypatch.setattr(progress, "_log_complaint", None)
    progress.log_to(Path("/dev/full"))
    progress.say("error: the one good line")
    progress.say("and more")
    said = capsys.readouterr().err.splitlines()
    assert said[::2] == ["error: the one good line", "and more"]
    assert said[1] == "warning: the log cannot be written (No space left on device)"


def test_in_a_pipe_a_line_comes_every_ten_seconds_and_at_the_end(capsys, clock):
    counted = progress.Progress("train", 100, "step", done=90)
    for _ in range(10):
        clock[0] += 4
        counted.advance()
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in said] == ["93/100", "96/100", "99/100", "100/100"]
    assert said[0].endswith("0:12, 0:28 left")


def test_the_log_gets_what_is_said(tmp_path, capsys, clock, monkeypatch):
    monkeypatch.setattr(progress, "_log", None)
    progress.log_to(tmp_path / "logs" / "train.log")
    progress.say("warning: something")
    progress.Progress("train", 1, "step").advance()
    assert (tmp_path / "logs" / "train.log").read_text() == capsys.readouterr().err


@given(
    stage=st.from_regex(r"[a-z]+( [a-z0-9_-]+)?", fullmatch=True),
    total=st.integers(1, 10**6),
    share=st.floats(0, 1),
    note=st.sampled_from(["", "loss 0.5", "a note  with gaps, 1:00 left"]),
)
def test_a_line_of_progress_is_read_as_it_was_written(stage, total, share, note):
    done = round(share * (total - 1))
    counted = progress.Progress(stage, total, "step", done=done)
    line = counted._line(counted._started + 5, note)
    assert progress.read_progress(line) == progress.Reading(stage, "step", done, total, "0:00", note)


@pytest.mark.parametrize("line", ["", "error: a  step 1/2", "train  step 1/2", "method  average 1/2  3 %"])
def test_any_other_line_is_not_read_as_progress(line):
    assert progress.read_progress(line) is None


SAYS = """
import sys
from pathlib import Path
from pipeline_lib import progress
progress.log_to(Path(sys.argv[1]))
progress.say("warning: something")
progress.Progress("train", 1, "step").advance()
"""


@pytest.mark.parametrize("shown_on", ["this stderr", "another", "nothing"])
def test_only_a_log_that_is_shown_on_this_stderr_is_not_said_there_too(tmp_path, shown_on):
    with (tmp_path / "terminal").open("w+") as terminal:
        names = {"this stderr": progress.file_name_of(terminal.fileno()), "another": "1:2"}
        variables = {progress.SHOWN_FROM_LOGS: names[shown_on]} if shown_on in names else {}
        command = [sys.executable, "-c", SAYS, str(tmp_path / "log")]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
        subprocess.run(command, env=environment, stderr=terminal, check=True)
    log, seen = (tmp_path / "log").read_text(), (tmp_path / "terminal").read_text()
    assert len(log.splitlines()) == 2
    assert seen == ("" if shown_on == "this stderr" else log)
