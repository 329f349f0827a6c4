"""Histories in TensorBoard, as its own reader sees them."""

import json
import sys

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.tools import tensorboard

ROWS = [
    {"step": step, "learning_rate": 0.1 / step, "hardware": "2 × some GPU"}
    | {"loss": {"total": 2.0 / step}, "positive": {"liver": 0.5}}
    for step in (10, 20, 30)
]


def write_history(path, rows, rest=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + rest)
    return path


def read_scalars(folder):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_number_of_a_history_is_a_scalar(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    history = write_history(tmp_path / "latent_class" / "history.jsonl", ROWS, rest='{"step": 40, "lear')
    folder = tensorboard.export(history, tmp_path / "logs")
    assert folder == tmp_path / "logs" / "latent_class"
    found = read_scalars(folder)
    assert found.keys() == {"learning_rate", "loss/total", "positive/liver"}
    assert found["loss/total"] == [(row["step"], pytest.approx(row["loss"]["total"])) for row in ROWS]
    assert found["learning_rate"] == [(row["step"], pytest.approx(row["learning_rate"])) for row in ROWS]


def test_a_second_export_replaces_the_first(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    history = tmp_path / "run" / "history.jsonl"
    for rows in (ROWS, ROWS[:1]):
        folder = tensorboard.export(write_history(history, rows), tmp_path / "logs")
    assert [step for step, _ in read_scalars(folder)["loss/total"]] == [10]


def test_a_missing_history_is_one_line(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    with pytest.raises(UserError, match=r"history\.jsonl: cannot be read \(No such file or directory\)"):
        tensorboard.export(tmp_path / "history.jsonl", tmp_path / "logs")


def test_trainings_under_way_are_found_and_named_by_their_run(tmp_path):
    finished = write_history(tmp_path / "results/models/baseline-seed0/history.jsonl", ROWS)
    under_way = write_history(tmp_path / "work/train/0f3a/history.jsonl", ROWS[:1])
    (under_way.parent / "run.json").write_text('{"run": "latent_class-seed0"}')
    assert tensorboard.find_histories(tmp_path) == [finished, under_way]
    assert [tensorboard.run_name(each) for each in (finished, under_way)] == ["baseline-seed0", "latent_class-seed0"]


def test_a_damaged_history_is_one_line(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    history = write_history(tmp_path / "run" / "history.jsonl", ROWS, rest="\0" * 9 + "\n")
    with pytest.raises(UserError, match=r"history\.jsonl: is damaged"):
        tensorboard.export(history, tmp_path / "logs")


def test_without_tensorboard_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"tensorboard: is not installed; pip install -e '\.\[tensorboard\]'"):
        tensorboard.export(tmp_path / "history.jsonl", tmp_path / "logs")
