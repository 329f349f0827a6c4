"""A training's folder has one owner, and the next one waits."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from pipeline_lib.training import folder_lock
from pipeline_lib.training.distributed import Distributed
from pipeline_lib.training.folder_lock import locked_folder

ALONE = Distributed(0, 1, torch.device("cpu"))


def hold(folder, ready, release) -> None:
    with locked_folder(folder, ALONE, "first"):
        ready.set()
        release.wait(60)


@pytest.fixture
def orphan(tmp_path, monkeypatch):
    """Another process that owns the folder; the event that makes it leave."""
    monkeypatch.setattr(folder_lock, "_SECONDS_BETWEEN_TRIES", 0.05)
    fork = multiprocessing.get_context("fork")
    ready, release = fork.Event(), fork.Event()
    process = fork.Process(target=hold, args=(tmp_path / "work", ready, release))
    process.start()
    assert ready.wait(30)
    yield process, release
    process.kill()
    process.join()


def test_the_second_waits_for_the_first_and_says_for_whom(tmp_path, orphan, capsys):
    process, release = orphan
    timer = multiprocessing.get_context("fork").Process(target=lambda: (time.sleep(0.5), release.set()))
    timer.start()
    started = time.monotonic()
    with locked_folder(tmp_path / "work", ALONE, "second"):
        assert time.monotonic() - started > 0.3
        process.join(10)
        assert process.exitcode == 0
    timer.join()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"second: waiting for process {process.pid} on " in said
    assert not list(tmp_path.iterdir())


def test_a_killed_owner_leaves_no_lock(tmp_path, orphan):
    process, _ = orphan
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with locked_folder(tmp_path / "work", ALONE, "second"):
        assert str(os.getpid()) in (tmp_path / "work.lock").read_text()


def test_without_locks_there_is_a_warning(tmp_path, monkeypatch, capsys):
    def refuse(*_) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", refuse)
    with locked_folder(tmp_path / "work", ALONE, "second"):
        pass
    assert "cannot be locked (No locks available): do not start this training twice" in capsys.readouterr().err
