"""The settings of a stage, printed for use by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from pipeline_lib.config import settings
from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.schema import Config, load_config

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
    slice_ = json.loads(printed("inference", *CONFIG, "--run", "baseline", "--dataset", "phantom_liver"))
    assert slice_["run"] == "baseline"
    assert set(slice_) == {"run", "dataset", "cases", "inference"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("text",), "text needs --encoder"),
        (("report", "--run", "baseline"), "report needs no other option"),
        (("case_list", "--dataset", "nowhere"), "has no nowhere; choose of: phantom_liver"),
        (("segmentation", "--run", "nothing"), "has no nothing; choose of: baseline"),
        (("text", "--encoder", "nobody"), "has no nobody; choose of: wordllama"),
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
    for stage in ("acquire", "acquire_execution", "delete_raw", "case_list", "existence"):
        cut = settings.SLICES[stage]
        assert cut(edited, edited_spleen.name) == cut(config, edited_spleen.name), stage
    assert settings.validate(edited) == settings.validate(config)
    assert settings.scores(edited, "baseline") == settings.scores(config, "baseline")


def with_labelled_cases(count: int) -> Config:
    content = yaml.safe_load((BASE / "config" / "config.yaml").read_text())
    content["methods"]["baseline"]["labelled_cases"] = {"phantom_spleen": count}
    return load_config(content, BASE)


def test_fewer_labelled_cases_are_repeated_so_that_nothing_else_changes():
    everything = settings.segmentation(with_labelled_cases(8), "baseline")
    few = settings.segmentation(with_labelled_cases(3), "baseline")
    names = few.cases["phantom_spleen"]
    assert len(set(names)) == 3
    assert len(names) == len(everything.cases["phantom_spleen"]) == 8
    assert max(map(names.count, names)) - min(map(names.count, names)) <= 1
    assert {name: cases for name, cases in few.cases.items() if name != "phantom_spleen"} == {
        name: cases for name, cases in everything.cases.items() if name != "phantom_spleen"
    }


def test_fewer_labelled_cases_are_among_the_more_and_the_seed_draws_them():
    config = with_labelled_cases(2), with_labelled_cases(5)
    few, more = (set(settings.segmentation(each, "baseline").cases["phantom_spleen"]) for each in config)
    assert few < more
    drawn = {settings.segmentation(config[0], f"baseline-seed{seed}").cases["phantom_spleen"] for seed in range(6)}
    assert len(drawn) > 1


def test_the_reports_fingerprint_names_what_results_depend_on_and_nothing_else():
    def fingerprint(**edits: object) -> str:
        edited = config.model_copy(update=edits)
        return settings.report(edited).fingerprint

    config = load_config(BASE / "config/config.yaml", BASE)
    same = fingerprint()
    assert same == fingerprint(execution=config.execution.model_copy(update={"num_workers": 3}))
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
