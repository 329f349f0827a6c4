"""Checkpoints and history on disks that fail."""

import errno
import json
import resource
import signal
from contextlib import contextmanager

import pytest
import torch

from pipeline_lib.errors import UserError
from pipeline_lib.training import checkpoints as checkpoints_module
from pipeline_lib.training.checkpoints import Checkpoints
from pipeline_lib.training.history import History

STATE = {"step": 1, "weights": {"layer": torch.arange(1000.0)}, "sums": {"loss": (0.5, 3)}}


@contextmanager
def disk_with(bytes_left: int):
    """Files of this process cannot grow beyond `bytes_left`: writing fails in the middle, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "work")


def steps(checkpoints) -> list[int]:
    return sorted(int(path.name.split(".")[0].removeprefix("step-")) for path in checkpoints.folder.iterdir())


def test_what_is_saved_is_read_again(checkpoints):
    assert checkpoints.newest() is None
    assert checkpoints.save(7, STATE)
    found = checkpoints.newest()
    assert found.keys() == STATE.keys()
    assert torch.equal(found["weights"]["layer"], STATE["weights"]["layer"])
    assert found["sums"] == {"loss": (0.5, 3)}


def test_the_newest_two_are_kept(checkpoints):
    for step in (9, 10, 100, 1000):
        checkpoints.save(step, {"step": step})
    assert steps(checkpoints) == [100, 1000]
    assert checkpoints.newest() == {"step": 1000}


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_torn_newest_checkpoint_falls_back_to_the_one_before(checkpoints, damage, capsys):
    checkpoints.save(1, {"step": 1})
    checkpoints.save(2, {"step": 2})
    newest = max(checkpoints.folder.glob("step-*.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut": content[:-100], "flipped": content, "empty": b""}[damage])
    assert checkpoints.newest() == {"step": 1}
    assert f"warning: {newest} is damaged and is skipped" in capsys.readouterr().err


def test_a_training_that_begins_before_damaged_checkpoints_keeps_its_own(checkpoints):
    for step in (100, 200):
        checkpoints.save(step, {"step": step})
    for path in checkpoints.folder.iterdir():
        path.write_bytes(b"torn")
    (checkpoints.folder / "step-00000300.partial").write_bytes(b"killed while it was written")
    for step in (10, 20, 30):
        checkpoints.save(step, {"step": step})
        assert checkpoints.newest() == {"step": step}
    assert steps(checkpoints) == [20, 30]


def test_a_checkpoint_that_cannot_be_read_now_ends_the_training_before_it_forgets_anything(checkpoints, monkeypatch):
    checkpoints.save(1, {"step": 1})

    def stale(path) -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints_module, "file_digest", stale)
        with pytest.raises(UserError, match=r"step-00000001.*: cannot be read \(Stale file handle\); run it again"):
            checkpoints.newest()
    assert checkpoints.newest() == {"step": 1}


def test_only_torn_checkpoints_are_none(checkpoints):
    checkpoints.save(1, {"step": 1})
    next(checkpoints.folder.iterdir()).write_bytes(b"torn")
    assert checkpoints.newest() is None


@pytest.mark.parametrize("bytes_left", [0, 100, 3000])
def test_a_full_disk_leaves_the_older_checkpoint_and_one_line(checkpoints, bytes_left, capsys):
    checkpoints.save(1, {"step": 1})
    with disk_with(bytes_left):
        assert not checkpoints.save(2, STATE)
    assert steps(checkpoints) == [1]
    assert checkpoints.newest() == {"step": 1}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("warning: no checkpoint at step 2, training continues: ")
    assert checkpoints.save(3, STATE)


def test_removing_takes_the_folder(checkpoints):
    checkpoints.save(1, {"step": 1})
    checkpoints.remove()
    assert not checkpoints.folder.exists()


def rows(history) -> list[dict]:
    return [json.loads(line) for line in history.path.read_text().splitlines()]


def test_rows_hold_means_over_the_steps_that_had_a_value(tmp_path):
    history = History(tmp_path / "history.jsonl", steps=6000)
    assert history.steps_per_row == 3
    history.add(1, {"loss/total": 1.0, "seconds": 1.0}, {"rate": 0.1})
    history.add(2, {"seconds": 2.0}, {"rate": 0.2})
    history.add(3, {"loss/total": 2.0, "seconds": 6.0}, {"rate": 0.3})
    history.add(4, {"loss/total": 9.0}, {"rate": 0.4})
    assert rows(history) == [{"step": 3, "rate": 0.3, "loss": {"total": 1.5}, "seconds": 3.0}]


def test_a_resumed_history_forgets_what_came_after_the_checkpoint(tmp_path):
    path = tmp_path / "history.jsonl"
    history = History(path, steps=4000)
    for step in range(1, 6):
        history.add(step, {"loss": float(step)}, {})
    state = history.state_dict()
    for step in range(6, 10):
        history.add(step, {"loss": 100.0}, {})
    path.write_bytes(path.read_bytes() + b'{"step": 10, "lo')
    resumed = History(path, steps=4000)
    resumed.load_state_dict(state)
    for step in range(6, 9):
        resumed.add(step, {"loss": float(step)}, {})
    assert rows(resumed) == [{"step": step, "loss": step - 0.5} for step in (2, 4, 6, 8)]


def test_rows_that_a_full_disk_refused_are_written_later(tmp_path, capsys):
    history = History(tmp_path / "history.jsonl", steps=10)
    history.add(1, {"loss": 1.0}, {})
    with disk_with(history.path.stat().st_size + 5):
        history.add(2, {"loss": 2.0}, {})
        assert not history.flush()
    history.add(3, {"loss": 3.0}, {})
    assert [row["step"] for row in rows(history)] == [1, 2, 3]
    assert "cannot be written, training continues" in capsys.readouterr().err


@pytest.mark.parametrize("left", [None, b"", b'{"step": 1, "loss": 1.0}\n{"st'])
def test_a_history_that_somebody_cut_or_removed_is_never_padded(tmp_path, capsys, left):
    """Zero bytes in place of the lost rows would end the report."""
    history = History(tmp_path / "history.jsonl", steps=10)
    for step in (1, 2, 3):
        history.add(step, {"loss": float(step)}, {})
    if left is None:
        history.path.unlink()
    else:
        history.path.write_bytes(left)
    for step in (4, 5):
        history.add(step, {"loss": float(step)}, {})
    assert [row["step"] for row in rows(history)] == ([1, 4, 5] if left else [4, 5])
    assert capsys.readouterr().err.count("was cut, but not by this training; its last rows are lost") == 1
    history.add(6, {"loss": 6.0}, {})
    assert rows(history)[-1] == {"step": 6, "loss": 6.0}
