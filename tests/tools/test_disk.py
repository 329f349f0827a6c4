"""Too little disk is refused with the figures; what is made already needs none; README's figures are these."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline_lib.config.loading import load_config
from pipeline_lib.config.schema import Config
from pipeline_lib.config.storage import Storage
from pipeline_lib.errors import UserError
from pipeline_lib.tools.disk import bytes_needed, check_disk

BASE = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(BASE / "config" / "config.yaml", BASE)


@pytest.fixture(scope="module")
def mots() -> Config:
    return load_config(BASE / "config" / "mots.yaml", BASE)


def test_too_little_disk_names_both_figures(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 10, 1_000_000))
    with pytest.raises(UserError, match=r"need about [\d.]+ GB more and 0\.0 GB are free"):
        check_disk(config, tmp_path)


def test_enough_disk_passes(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 10, bytes_needed(config, tmp_path)))
    check_disk(config, tmp_path)


def test_what_is_there_needs_nothing_more(mots, tmp_path):
    needs = [bytes_needed(mots, tmp_path)]
    for made in ("resources/raw/Task03_Liver/manifest.json", "results/volumes/Task03_Liver/cases.csv"):
        (tmp_path / made).parent.mkdir(parents=True)
        (tmp_path / made).touch()
        needs.append(bytes_needed(mots, tmp_path))
    assert needs[0] - needs[1] == pytest.approx(2 * 28_925_891_584)  # the archive and what it unpacks to
    assert 4e9 < needs[1] - needs[2] < 12e9


def test_volumes_that_batches_have_made_need_nothing_more_though_not_all_are_made(mots, tmp_path):
    needs, cases = [bytes_needed(mots, tmp_path)], mots.dataset("Task03_Liver").used_cases
    folder = tmp_path / "results" / "volumes" / "Task03_Liver"
    folder.mkdir(parents=True)
    for number, made in enumerate((cases[:10], cases[10:])):
        (folder / f"batch_{number:04d}.txt").write_text("".join(f"{case} 0\n" for case in made))
        needs.append(bytes_needed(mots, tmp_path))
    (folder / "cases.csv").touch()
    assert bytes_needed(mots, tmp_path) == needs[2] < needs[1] < needs[0]
    assert (needs[0] - needs[1]) / (needs[0] - needs[2]) == pytest.approx(10 / len(cases))


def test_what_is_deleted_on_the_way_needs_less(mots, tmp_path):
    needs = {
        (archives, raw): bytes_needed(
            mots.model_copy(update={"storage": Storage(keep_archives=archives, keep_raw_cases=raw)}), tmp_path
        )
        for archives in (True, False)
        for raw in (True, False)
    }
    assert needs[False, False] < min(needs[True, False], needs[False, True])
    assert max(needs[True, False], needs[False, True]) < needs[True, True]


def test_readme_says_what_the_command_prints():
    command = [sys.executable, "-m", "pipeline_lib.tools.disk", "--configfile", "config/mots.yaml"]
    printed = subprocess.run(command, cwd=BASE, capture_output=True, text=True, check=True).stdout
    _, *sizes = printed.splitlines()[-1].split()
    readme = (BASE / "README.md").read_text(encoding="utf-8")
    rows = [re.search(rf"^\| {what}[^|]*\| (\d+) \|", readme, re.MULTILINE) for what in ("archives", "raw", "volumes")]
    assert [int(row[1]) for row in rows] == [round(float(size)) for size in sizes]
