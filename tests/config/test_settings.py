"""The settings of a stage, printed for use by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pipeline_lib.config import settings

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
