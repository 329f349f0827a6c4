"""Snapshots are taken when they are due, and a resumed training that lacks one says so."""

from __future__ import annotations

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


def test_a_training_that_resumes_behind_a_snapshot_that_is_not_there_is_refused(tmp_path):
    snapshots = Snapshots((0.25, 0.5, 1), 20, tmp_path / "teachers", lambda path: None)
    snapshots.check(4)
    with pytest.raises(UserError, match=r"interrupted after step 12 and has not kept 0\.25\.safetensors, 0\.5\.safe"):
        snapshots.check(12)
    (tmp_path / "teachers").mkdir()
    for path in snapshots.files[:2]:
        path.touch()
    snapshots.check(12)
