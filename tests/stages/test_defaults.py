"""A new key with its default changes no settings file; a changed default needs a higher VERSION."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.section import Section, digest, text_without_defaults
from pipeline_lib.stages.resample.settings import batches_of
from pipeline_lib.stages.settings import WILDCARDS, settings_file, slice_of, wildcards_of
from pipeline_lib.stages.table import STAGES, has_execution, version_of
from tests.support.defaults import current, read_record, unannounced

BASE = Path(__file__).parents[2]
CONFIGS = ("config/config.yaml", "config/mots.yaml", "tests/configs/tiny.yaml")
SLICES = [(stage, False) for stage in STAGES] + [(stage, True) for stage in STAGES if has_execution(stage)]


def arguments(cut, config) -> dict[str, str]:
    dataset = config.datasets.partially_labelled[0]
    run = config.runs[0]
    values = {
        "dataset": dataset.name,
        "batch": next(iter(batches_of(dataset))),
        "encoder": config.methods[run.method].encoder,
        "run": run.name,
    }
    assert set(values) == set(WILDCARDS)
    return {name: values[name] for name in wildcards_of(cut)}


def test_a_changed_default_comes_with_a_raised_version():
    assert unannounced(read_record(), current()) == {}


def test_the_record_of_defaults_is_up_to_date():
    assert read_record() == current(), "call python -m tests.support.defaults"


def test_the_guard_sees_a_changed_default_and_a_raised_version():
    recorded = current()
    changed = copy.deepcopy(recorded)
    changed["train"]["defaults"]["Optimisation.weight_decay"] = 0.5
    assert unannounced(recorded, changed) == {"train": ["Optimisation.weight_decay"]}
    changed["train"]["version"] += 1
    assert unannounced(recorded, changed) == {}
    changed = copy.deepcopy(recorded)
    changed["train"]["defaults"]["Lacuna.certainty"] = 0.8
    assert unannounced(recorded, changed) == {"train": ["Lacuna.certainty"]}
    changed["revisions"]["Lacuna"] += 1
    assert unannounced(recorded, changed) == {}, "the method says so itself"
    del changed["predict"]["defaults"]["Prediction.overlap"]
    changed["predict"]["defaults"]["Prediction.new_key"] = 3
    assert unannounced(recorded, changed) == {}, "keys that come and go change no default"


def test_a_section_that_gains_a_key_is_a_changed_default_only_if_it_sets_that_key():
    recorded = current()
    changed = copy.deepcopy(recorded)
    changed["train"]["defaults"]["SupervisedLoss.new_key"] = 3
    changed["train"]["defaults"]["LabelsAlone.supervised"]["new_key"] = 3
    assert unannounced(recorded, changed) == {}
    changed["train"]["defaults"]["LabelsAlone.supervised"]["new_key"] = 4
    assert unannounced(recorded, changed) == {"train": ["LabelsAlone.supervised"]}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("stage", "execution"), SLICES)
def test_settings_are_read_back_as_they_were(name, stage, execution, tmp_path, monkeypatch):
    config = load_config(BASE / name, BASE)
    cut = slice_of(stage, execution)
    values = arguments(cut, config)
    section = cut(config, **values)
    monkeypatch.chdir(tmp_path)
    path = Path(settings_file(stage, config, execution, **values))
    assert type(section).model_validate_json(path.read_text()) == section


def test_settings_files_hold_no_default_where_the_stage_has_a_version(tmp_path, monkeypatch):
    config = load_config(BASE / "tests" / "configs" / "tiny.yaml", BASE)
    monkeypatch.chdir(tmp_path)
    train = json.loads(Path(settings_file("train", config, run="baseline-seed0")).read_text())
    assert train["optimisation"] == {"epochs": 1, "batch_size": 3, "learning_rate": 1e-3}
    assert train["augmentation"] == {}
    score = json.loads(Path(settings_file("score", config, run="baseline-seed0")).read_text())
    assert version_of("score") is None
    assert "surface_tolerance_mm" in score["scores"], "a stage without a version must see a changed default"


def test_a_new_key_with_its_default_leaves_text_and_digest_as_they_were():
    class Inner(Section):
        kind: str = "a"
        size: int = 3

    class LongerInner(Inner):
        colour: str = "red"

    class Outer(Section):
        inner: Inner = Inner()
        part: Inner

    class LongerOuter(Section):
        inner: LongerInner = LongerInner()
        part: LongerInner
        depth: int = 1

    old, new = Outer(part=Inner(size=4)), LongerOuter(part=LongerInner(size=4))
    assert text_without_defaults(old) == text_without_defaults(new)
    assert digest(old) == digest(new)
    assert digest(old) != digest(Outer(part=Inner(size=5)))
    assert json.loads(text_without_defaults(old))["part"] == {"kind": "a", "size": 4}, "a union is read by its kind"
