"""Kept models are listed with what they were trained from; only what is named is ever removed."""

from __future__ import annotations

import sys

import pytest

from pipeline_lib.tools import models
from pipeline_lib.training.identity import Identity
from pipeline_lib.training.model_store import ModelStore


@pytest.fixture
def kept(tmp_path, monkeypatch) -> list[str]:
    """The fingerprints of two kept trainings, below the working directory."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model.safetensors"
    model.write_bytes(bytes(3_000_000))
    identities = [Identity({"version": "2", "optimisation": f'{{"epochs": {epochs}}}'}) for epochs in (5, 6)]
    for stage, title, identity in zip(("train", "train_roi_aware"), ("train a-seed0", "b"), identities, strict=True):
        ModelStore(stage, identity, title).keep([model])
    return [identity.fingerprint for identity in identities]


def called(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["models", *arguments])
    models.main()


def test_the_list_says_what_each_was_trained_from(kept, monkeypatch, capsys):
    called(monkeypatch)
    head, parts, *others = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["train", kept[0], "train", "a-seed0"]
    assert head.endswith("3.0 MB")
    assert parts == '    version: 2, optimisation: {"epochs": 5}'
    assert [line.split()[0] for line in others] == ["train_roi_aware", "version:"]


def test_only_what_is_named_is_removed(kept, monkeypatch):
    called(monkeypatch, "--remove", kept[0])
    assert [folder.name for folder, _ in models.kept_models()] == [kept[1]]


@pytest.mark.parametrize("name", ["nothing", "", "..", "train", "*"])
def test_an_unknown_name_removes_nothing(kept, monkeypatch, name):
    with pytest.raises(SystemExit, match=r"error: models: has no"):
        called(monkeypatch, "--remove", kept[1], name)
    assert sorted(folder.name for folder, _ in models.kept_models()) == sorted(kept)
