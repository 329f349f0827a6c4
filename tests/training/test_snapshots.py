"""Snapshots are taken when they are due, and a resumed training that lacks one says so."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.training.snapshots import Snapshots


def test_each_is_taken_after_its_share_of_the_steps(tmp_path):
    taken = []
    snapshots = Snapshots((0.01, 0.25, 1), 20, tmp_path / "teachers", taken.append)
    for step in range(1, 21):
        before = len(taken)
        snapshots.take(step)
        assert len(taken) - before == (step in (1, 5, 20))
    assert (
        taken == snapshots.files == [tmp_path / "teachers" / f"{share}.safetensors" for share in ("0.01", "0.25", "1")]
    )


def test_a_full_disk_costs_a_snapshot_but_not_the_training(tmp_path, capsys):
    def refuse(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    snapshots = Snapshots((0.5, 1), 4, tmp_path / "teachers", refuse)
    snapshots.take(2)
    assert "no snapshot 0.5.safetensors at step 2, training continues: No space left" in capsys.readouterr().err
    snapshots.save = Path.touch
    (tmp_path / "teachers").mkdir()
    snapshots.take(4)
    with pytest.raises(UserError, match=r"has done 4 steps without keeping 0\.5\.safetensors; remove those shares"):
        snapshots.check(4)


def test_a_training_that_resumes_behind_a_snapshot_that_is_not_there_is_refused(tmp_path):
    snapshots = Snapshots((0.25, 0.5, 1), 20, tmp_path / "teachers", lambda path: None)
    snapshots.check(4)
    with pytest.raises(UserError, match=r"has done 12 steps without keeping 0\.25\.safetensors, 0\.5\.safe"):
        snapshots.check(12)
    (tmp_path / "teachers").mkdir()
    for path in snapshots.files[:2]:
        path.touch()
    snapshots.check(12)


def test_the_loop_takes_them_and_does_not_resume_without_one(tiny):
    training = replace(tiny, snapshots=(0.25, 1), checkpoint_minutes=10)
    training.run()
    first, last = training.kept.files
    assert first.is_file()
    assert last.is_file()
    training.run()
    first.unlink()
    with pytest.raises(UserError, match=r"without keeping 0\.25\.safetensors; remove those shares"):
        training.run()
