"""The settings of a stage, printed for use by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.schema import Config
from pipeline_lib.stages import settings
from pipeline_lib.stages.acquire.settings import Execution
from pipeline_lib.stages.table import STAGES

score, train, validate, write_report = (
    STAGES[stage].settings_from for stage in ("score", "train", "validate", "write_report")
)
BASE = Path(__file__).parents[2]
CONFIG = ("--configfile", "config/config.yaml")


@pytest.fixture
def printed(monkeypatch, capsys):
    """Runs the command with the given arguments in the project's folder and gives what it prints."""
    monkeypatch.chdir(BASE)

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["settings", *arguments])
        settings.main()
        return capsys.readouterr().out

    return run


def test_a_stage_gets_its_slice(printed):
    slice_ = json.loads(printed("predict", *CONFIG, "--run", "baseline-seed0", "--dataset", "phantom_liver"))
    assert slice_["run"] == "baseline-seed0"
    assert set(slice_) == {"run", "dataset", "cases", "prediction"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("embed",), "embed needs --encoder"),
        (("write_report", "--run", "baseline-seed0"), "write_report needs no other option"),
        (("list_cases", "--dataset", "nowhere"), "unknown data set nowhere; choose from: phantom_liver"),
        (("train", "--run", "nothing-seed0"), "unknown method nothing; choose from: baseline"),
        (("train", "--run", "baseline"), "write METHOD-seedSEED, as baseline_2-seed0"),
        (("list_cases", "--dataset", "phantom_liver", "--execution"), "list_cases has no settings of how it runs"),
        (("embed", "--encoder", "nobody"), "unknown encoder nobody; choose from: wordllama"),
    ],
)
def test_a_wrong_call_ends_in_a_line(printed, capsys, arguments, expected):
    with pytest.raises(SystemExit) as end:
        printed(arguments[0], *CONFIG, *arguments[1:])
    assert expected in str(end.value.code) + capsys.readouterr().err


@pytest.mark.parametrize(
    "edit", [{"licence": "another"}, {"doubted": ({"case": "spleen_2", "reason": "a faint outline"},)}, {"about_gb": 9}]
)
def test_what_is_only_said_about_a_data_set_reruns_the_report_at_most(edit):
    config = load_config(BASE / "config" / "mots.yaml", BASE)
    spleen = config.dataset("Task09_Spleen").model_dump(mode="json")
    if "about_gb" in edit:
        spleen["source"]["files"][0] |= edit
    else:
        spleen |= edit
    edited_spleen = Dataset.model_validate(spleen)
    partial = tuple(
        edited_spleen if each.name == edited_spleen.name else each for each in config.datasets.partially_labelled
    )
    edited = config.model_copy(update={"datasets": config.datasets.model_copy(update={"partially_labelled": partial})})
    assert edited != config
    for stage in ("acquire", "delete_raw", "list_cases", "score_existence"):
        cut = STAGES[stage].settings_from
        assert cut(edited, edited_spleen.name) == cut(config, edited_spleen.name), stage
    assert STAGES["acquire"].execution_from(edited, edited_spleen.name) == Execution()
    assert validate(edited) == validate(config)
    assert score(edited, "baseline-seed0") == score(config, "baseline-seed0")


def test_a_data_set_that_only_tests_is_part_of_no_training():
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    first = load_config(content, BASE)
    new = first.dataset("phantom_spleen").model_dump(mode="json") | {"name": "phantom_new"}
    new["source"]["cases"], new["split"] = 1, {"test": ["new_000"]}
    content["datasets"]["partially_labelled"] += [new]
    more = load_config(content, BASE)
    assert more.dataset("phantom_new").split_cases("test") == ("new_000",)
    assert train(more, "baseline-seed0") == train(first, "baseline-seed0")


def with_labelled_cases(count: int) -> Config:
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    content["methods"]["baseline"]["labelled_cases"] = {"phantom_spleen": count}
    return load_config(content, BASE)


def test_fewer_labelled_cases_are_repeated_so_that_nothing_else_changes():
    everything = train(with_labelled_cases(8), "baseline-seed0")
    few = train(with_labelled_cases(3), "baseline-seed0")
    names = few.cases["phantom_spleen"]
    assert len(set(names)) == 3
    assert len(names) == len(everything.cases["phantom_spleen"]) == 8
    assert max(map(names.count, names)) - min(map(names.count, names)) <= 1
    assert {name: cases for name, cases in few.cases.items() if name != "phantom_spleen"} == {
        name: cases for name, cases in everything.cases.items() if name != "phantom_spleen"
    }


def test_fewer_labelled_cases_are_among_the_more_and_the_seed_draws_them():
    config = with_labelled_cases(2), with_labelled_cases(5)
    few, more = (set(train(each, "baseline-seed0").cases["phantom_spleen"]) for each in config)
    assert few < more
    drawn = {train(config[0], f"baseline-seed{seed}").cases["phantom_spleen"] for seed in range(6)}
    assert len(drawn) > 1


def test_the_reports_fingerprint_names_what_results_depend_on_and_nothing_else():
    def fingerprint(**edits: object) -> str:
        edited = config.model_copy(update=edits)
        return write_report(edited).fingerprint

    config = load_config(BASE / "config/config.yaml", BASE)
    same = fingerprint()
    assert same == fingerprint(execution=config.execution.model_copy(update={"num_workers": 3}))
    elsewhere = {"device": "cpu", "precision": "float32", "window_batch_size": 9}
    assert same == fingerprint(inference=config.inference.model_copy(update=elsewhere))
    assert same == fingerprint(methods={**config.methods, "dodnet": config.methods["mean_teacher"]}), "not compared"
    slower = config.segmentation.model_copy(update={"learning_rate": 1e-5})
    other_prompt = config.text.model_copy(update={"prompt": "{}"})
    longer = config.roi_aware.optimisation.model_copy(update={"epochs": 41})
    for edit in (
        {"segmentation": slower},
        {"seed": 1},
        {"seeds": (0, 1)},
        {"text": other_prompt},
        {"roi_aware": config.roi_aware.model_copy(update={"optimisation": longer})},
        {"inference": config.inference.model_copy(update={"flip_tta": True})},
        {"volumes": config.volumes.model_copy(update={"spacing_mm": (8.0, 8.0, 8.0)})},
    ):
        assert fingerprint(**edit) != same, edit


def a_config(**changes) -> Config:
    """The default config whose first data set is changed."""
    config = load_config(BASE / "config/config.yaml", BASE)
    first, *others = config.datasets.partially_labelled
    first = Dataset.model_validate(first.model_dump() | changes)
    datasets = config.datasets.model_copy(update={"partially_labelled": (first, *others)})
    return Config.model_validate(config.model_dump() | {"datasets": datasets.model_dump()})


def test_a_table_of_labels_concerns_only_the_volumes_of_the_cases_that_label_less(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = a_config()
    dataset = plain.datasets.partially_labelled[0]
    rois = tuple(dataset.labels)
    changed = dataset.all_cases[0]
    table = dict.fromkeys(dataset.all_cases, rois) | {changed: rois[:1]}
    partly = a_config(labelled=table)

    def file(config, stage, **wildcards):
        return settings.settings_file(stage, config, **wildcards)

    before, after = (STAGES["resample"].settings_from(config, dataset.name, "0000") for config in (plain, partly))
    assert [case for case in dataset.all_cases if before.of_case(case) != after.of_case(case)] == [changed]
    one, other = (file(config, "resample", dataset=dataset.name, batch="0000") for config in (plain, partly))
    assert one != other
    for stage, wildcards in (
        ("acquire", {"dataset": dataset.name}),
        ("list_cases", {"dataset": dataset.name}),
        ("score_existence", {"dataset": dataset.name}),
        ("train", {"run": plain.runs[0].name}),
        ("train_roi_aware", {}),
    ):
        assert file(plain, stage, **wildcards) == file(partly, stage, **wildcards), stage
    assert write_report(plain).fingerprint != write_report(partly).fingerprint


def test_a_roi_that_no_training_case_labels_is_refused():
    dataset = a_config().datasets.partially_labelled[0]
    with pytest.raises(ValueError, match=f"no data set with training cases labels {next(iter(dataset.labels))}"):
        a_config(labelled=dict.fromkeys(dataset.all_cases, ()))
