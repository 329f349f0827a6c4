"""Trained models are kept by what they depend on, and come back."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline_lib.config.optimisation import Optimisation
from pipeline_lib.files import atomic_write, read_json
from pipeline_lib.tools.models import kept_models
from pipeline_lib.training import model_store
from pipeline_lib.training.identity import Identity, case_fingerprint
from pipeline_lib.training.model_store import ModelStore, kept_folders
from pipeline_lib.volumes.record import read_record, write_record
from pipeline_lib.volumes.store import open_volume, write_image


def identity(settings=None, cases=(), ignored=(), inputs=None, version="1") -> Identity:
    return Identity.from_training(settings or Optimisation(), ignored, cases, inputs or {}, version)


def test_defaults_are_not_part_of_an_identity_and_all_else_is(tiny):
    first = identity(Optimisation(epochs=5), tiny.cases).fingerprint
    assert first == identity(Optimisation(epochs=5, batch_size=12), tiny.cases).fingerprint
    assert first == identity(Optimisation(epochs=5, learning_rate=0.1), tiny.cases, ["learning_rate"]).fingerprint
    others = {
        identity(Optimisation(epochs=6), tiny.cases).fingerprint,
        identity(Optimisation(epochs=5), tiny.cases[::-1]).fingerprint,
        identity(Optimisation(epochs=5), tiny.cases[:-1]).fingerprint,
        identity(Optimisation(epochs=5), (*tiny.cases, tiny.cases[0])).fingerprint,
        identity(Optimisation(epochs=5), tiny.cases, inputs={"embeddings": "1"}).fingerprint,
        identity(Optimisation(epochs=5), tiny.cases, version="2").fingerprint,
    }
    assert len(others | {first}) == 7


def test_a_case_is_known_by_its_content(tiny, tmp_path):
    case = tiny.cases[0]
    folder = tmp_path / case.name
    shutil.copytree(case.folder, folder)
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    first = case_fingerprint(case)
    assert case_fingerprint(replace(case, folder=folder)) == first
    others = {
        case_fingerprint(replace(case, labelled=~case.labelled)),
        case_fingerprint(replace(case, pool=case.pool + 1)),
        case_fingerprint(replace(case, scores=case.scores / 2)),
        case_fingerprint(replace(case, scores=None)),
        case_fingerprint(replace(case, name="other")),
    }
    record = read_record(folder / "case.json")
    write_record(folder / "case.json", record.model_copy(update={"voxels": {**record.voxels, "liver": 7}}))
    others.add(case_fingerprint(replace(case, folder=folder)))
    write_record(folder / "case.json", record)
    volume = open_volume(folder)
    image = volume.read_image((0, 0, 0), volume.shape)
    image[0, 0, 0] = 300 - image[0, 0, 0]
    (folder / "image.b2nd").unlink()
    write_image(folder / "image.b2nd", image, (-325.0, 325.0))
    others.add(case_fingerprint(replace(case, folder=folder)))
    assert len(others | {first}) == 8


def test_a_record_that_knows_its_content_stands_for_the_files(tiny, tmp_path):
    case = tiny.cases[0]
    folder = tmp_path / case.name
    shutil.copytree(case.folder, folder)
    record = read_record(folder / "case.json")
    found = set()
    for content in ("", "one", "another"):
        write_record(folder / "case.json", record.model_copy(update={"content": content}))
        found.add(case_fingerprint(replace(case, folder=folder)))
    assert len(found) == 3


def test_scores_count_by_what_they_were_computed_from_where_it_is_known(tiny):
    scored = replace(tiny.cases[0], scored_by="network 1")
    rounded = replace(scored, scores=np.nextafter(scored.scores, np.float32(1)))
    assert case_fingerprint(rounded) == case_fingerprint(scored)
    assert case_fingerprint(replace(scored, scored_by="network 2")) != case_fingerprint(scored)
    assert case_fingerprint(replace(rounded, scored_by=None)) != case_fingerprint(replace(scored, scored_by=None))
    unscored = {case_fingerprint(replace(scored, scores=None, scored_by=name)) for name in ("network 1", None)}
    assert len(unscored) == 1, "a method that reads no scores does not depend on them"


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The outputs of a training, kept."""
    monkeypatch.chdir(tmp_path)
    outputs = [tmp_path / "results" / name for name in ("model.safetensors", "history.jsonl")]
    outputs[0].parent.mkdir()
    for path in outputs:
        path.write_text(f"content of {path.name}")
    ModelStore("train", identity(), "ours").keep(outputs)
    return outputs


def test_what_was_kept_is_restored_as_new_files(trained, tmp_path, capsys):
    for path in trained:
        os.utime(path, (1, 1))
        path.unlink()
    store = ModelStore("train", identity(), "ours")
    assert store.restore(trained)
    for path in trained:
        assert path.read_text() == f"content of {path.name}"
        assert path.stat().st_mtime > 1e9
    assert f"ours: already trained; restored from models/train/{identity().fingerprint}\n" in capsys.readouterr().err
    about = read_json(store.folder / "about.json")
    assert about["title"] == "ours"
    assert not ModelStore("train", identity(version="2"), "ours").restore(trained)


def test_writing_the_output_again_leaves_the_kept_file_alone(trained):
    with atomic_write(trained[0]) as partial:
        partial.write_text("another model")
    assert ModelStore("train", identity(), "ours").restore(trained)
    assert trained[0].read_text() == "content of model.safetensors"


def test_writing_into_the_output_in_place_leaves_the_kept_file_alone(trained):
    trained[0].write_text("another model")
    assert ModelStore("train", identity(), "ours").restore(trained)
    assert trained[0].read_text() == "content of model.safetensors"


def test_a_damaged_entry_is_named_and_not_used(trained, capsys):
    store = ModelStore("train", identity(), "ours")
    (store.folder / "history.jsonl").unlink()
    (store.folder / "history.jsonl").write_text("cut")
    assert not store.restore(trained)
    assert "history.jsonl is damaged or missing: ours is trained again" in capsys.readouterr().err


def test_a_file_that_was_not_asked_for_when_the_training_was_kept_is_not_called_damaged(trained, capsys):
    assert not ModelStore("train", identity(), "ours").restore([*trained, trained[0].parent / "0.5.safetensors"])
    said = capsys.readouterr().err
    assert "was kept without 0.5.safetensors: it is trained again" in said
    assert "damaged" not in said


def test_intact_files_of_an_earlier_training_stay_and_only_missing_ones_are_added(trained, tmp_path):
    """It was trained again for one more snapshot, and its history was damaged. Others may have begun with its model."""
    store = ModelStore("train", identity(), "ours")
    (store.folder / "history.jsonl").write_text("cut")
    snapshot = tmp_path / "results/0.5.safetensors"
    for path in (*trained, snapshot):
        path.write_text("trained again")
    assert store.keep([trained[0], snapshot])
    assert store.keep(trained)
    expected = {"model.safetensors": "content of model.safetensors", "history.jsonl": "trained again"}
    expected["0.5.safetensors"] = "trained again"
    assert {name: (store.folder / name).read_text() for name in expected} == expected
    assert trained[0].read_text() == "content of model.safetensors"
    assert store.restore([*trained, snapshot])


def test_what_the_disk_refuses_is_said_and_is_not_kept(trained, monkeypatch, capsys):
    def full_after_one(source, target) -> None:
        if source == trained[1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr(model_store.shutil, "copyfile", full_after_one)
    store = ModelStore("train", identity(version="2"), "ours")
    assert not store.keep(trained)
    assert f"ours is not kept in {store.folder}: No space left on device" in capsys.readouterr().err
    assert list(store.folder.iterdir()) == [], "space that nothing lists"
    assert not store.restore(trained)


def test_what_a_kill_left_half_written_is_no_kept_training(trained):
    (kept,) = kept_folders(Path("models/train"))
    shutil.copytree(kept, kept.with_name(f".{kept.name}.1.partial"))
    assert [folder for folder, _ in kept_models()] == [kept]


def test_why_there_is_something_to_train(trained):
    assert ModelStore("train", identity(), "another").why_train() == "none is kept in models/train"
    changed = identity(Optimisation(epochs=3, learning_rate=1e-3), version="2")
    why = ModelStore("train", changed, "ours").why_train()
    assert why.startswith("differs from the one finished ")
    assert why.endswith(" in: epochs, learning_rate, version")
