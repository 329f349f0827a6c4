"""How far a stage is: on a terminal, in a pipe and in the log."""

import io
from pathlib import Path

import pytest

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
