"""Where a config and its data sets are found, and in which words a mistake is reported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.loading import load_config
from pipeline_lib.errors import UserError

BASE = Path(__file__).parents[2]
DEFAULT = (BASE / "config" / "config.yaml").read_text()


def message_of(source, configfiles=()) -> str:
    with pytest.raises(UserError) as caught:
        load_config(source, BASE, configfiles)
    message = str(caught.value)
    assert "\n" not in message
    return message


def phantom(licence: str) -> str:
    """A spleen data set that is told from the project's own by its licence."""
    content = yaml.safe_load((BASE / "config" / "datasets" / "phantom_spleen.yaml").read_text())
    return yaml.safe_dump({**content, "licence": licence})


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A working directory, which is not that of the config."""
    (tmp_path / "work").mkdir()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "study.yaml").write_text(DEFAULT)
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize("form", ["path", "mapping"])
def test_a_data_set_is_looked_up_beside_the_config_then_in_the_working_directory_then_in_the_checkout(study, form):
    configfile = study / "configs" / "study.yaml"

    def licence() -> str:
        source, files = (configfile, ()) if form == "path" else (yaml.safe_load(DEFAULT), (configfile,))
        return load_config(source, BASE, files).dataset("phantom_spleen").licence

    assert licence() == yaml.safe_load((BASE / "config" / "datasets" / "phantom_spleen.yaml").read_text())["licence"]
    for folder, name in ((Path("config") / "datasets", "working"), (study / "configs" / "datasets", "beside")):
        folder.mkdir(parents=True)
        (folder / "phantom_spleen.yaml").write_text(phantom(name))
        assert licence() == name


def test_an_unknown_data_set_is_refused_with_the_file_to_write(study):
    configfile = study / "configs" / "study.yaml"
    configfile.write_text(DEFAULT.replace("phantom_spleen", "lab_spleen"))
    message = message_of(configfile)
    assert f"unknown data set lab_spleen; write {study / 'configs' / 'datasets' / 'lab_spleen.yaml'}" in message
    assert "phantom_spleen" in message


@pytest.mark.parametrize("form", ["path", "mapping"])
def test_a_repeated_key_is_refused_with_its_lines(tmp_path, form):
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\n" + DEFAULT + "\nscores: {truth: full,\n  truth: labelled}\n")
    message = message_of(path) if form == "path" else message_of(yaml.safe_load(path.read_text()), (path,))
    assert str(path) in message
    assert "is given twice, first in line" in message
    path.write_text("a: {truth: full,\n  truth: labelled}\n")
    assert "line 2: `truth` is given twice, first in line 1; keep one of them" in message_of(path)


def test_a_repeated_key_of_a_data_set_is_refused(study):
    folder = study / "configs" / "datasets"
    folder.mkdir()
    (folder / "phantom_spleen.yaml").write_text(phantom("x") + "licence: y\n")
    assert "phantom_spleen.yaml, line" in message_of(study / "configs" / "study.yaml")


def test_an_alias_of_yaml_is_no_repetition(tmp_path):
    path = tmp_path / "aliases.yaml"
    method = "{kind: labels_alone, network: swin_unetr, encoder: wordllama}"
    methods = f"methods:\n  a: &a {method}\n  baseline: *a\ncompare: [a]\n"
    path.write_text(DEFAULT[: DEFAULT.index("\nmethods:") + 1] + methods)
    assert set(load_config(path, BASE).methods) == {"a", "baseline"}


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"rois": None, "roi": []}, ["config: roi: is not a known key (and 1 more); did you mean `rois`?"]),
        (
            {"colour": 1, "segmentaton": {}, "shape": 2},
            ["segmentaton: is not a known key (and 2 more); did you mean `segmentation`?"],
        ),
        ({"rois": None}, ["config: rois: is missing; add it"]),
        ({"volumes": 3}, ["config: volumes: must be a section of keys, given 3"]),
        ({"seeds": 4}, ["config: seeds: must be a list, given 4; write [4]"]),
        ({"segmentation": {"epochs": "many"}}, ["segmentation.epochs: must be a whole number, given 'many'"]),
        ({"segmentation": {"learning_rate": "fast"}}, ["segmentation.learning_rate: must be a number, given 'fast'"]),
        ({"segmentation": {"epochs": 0}}, ["segmentation.epochs: must be greater than or equal to 1, given 0"]),
        ({"execution": {"compile": "perhaps"}}, ["execution.compile: must be true or false, given 'perhaps'"]),
        ({"seeds": []}, ["config: seeds: must have at least 1 entries, given 0"]),
        ({"scores": {"convention": "best"}}, ["scores.convention: must be 'nnunet', 'dodnet'", "given 'best'"]),
    ],
)
def test_a_mistake_is_said_in_words_of_the_config(edits, expected):
    content = {**yaml.safe_load(DEFAULT), **edits}
    message = message_of({key: value for key, value in content.items() if value is not None})
    for part in expected:
        assert part in message
    for word in ("Input should", "valid dictionary", "Field required", "tag"):
        assert word not in message


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"source": "/data/x"}, "source: must be a section of keys, given '/data/x'"),
        ({"source": {"path": "/data/x"}}, "source: has no kind; add it; choose from: download, local, phantom"),
        (
            {"source": {"kind": "web"}},
            "source: has an unknown kind, 'web'; choose from: 'phantom', 'download', 'local'",
        ),
        (
            {"source": {"kind": "local", "pat": "/x"}},
            "source.pat: is not a known key (and 1 more); did you mean `path`?",
        ),
        ({"labels": {"spleen": 2}}, "labels.spleen: must be a list, given 2; write [2]"),
    ],
)
def test_a_mistake_in_a_data_set_is_said_in_words_of_its_file(tmp_path, edit, expected):
    path = tmp_path / "phantom_spleen.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(phantom("x")), **edit}))
    content = yaml.safe_load(DEFAULT)
    content["datasets"]["partially_labelled"][-1] = str(path)
    assert f"{path}: {expected}" in message_of(content)
