"""Too little disk is refused with the figures; what is made already needs none."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline_lib.config.config import load_config
from pipeline_lib.config.disk import bytes_needed, check_disk
from pipeline_lib.errors import UserError

BASE = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def config():
    return load_config(BASE / "config" / "config.yaml", BASE)


def test_too_little_disk_names_both_figures(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 10, 1_000_000))
    with pytest.raises(UserError, match=r"need about [\d.]+ GB more and 0\.0 GB are free"):
        check_disk(config, tmp_path)


def test_enough_disk_passes(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10, 10, bytes_needed(config, tmp_path)))
    check_disk(config, tmp_path)


def test_what_is_there_needs_nothing_more(config, tmp_path):
    before = bytes_needed(config, tmp_path)
    (tmp_path / "results" / "volumes" / "phantom_liver").mkdir(parents=True)
    (tmp_path / "results" / "volumes" / "phantom_liver" / "cases.csv").touch()
    assert bytes_needed(config, tmp_path) < before
