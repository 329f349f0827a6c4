"""Volumes that are gone, or that no finished batch has made, are made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.schema import Config
from pipeline_lib.stages.resample.lost import forget_lost_volumes
from pipeline_lib.stages.resample.settings import CASES_PER_JOB, batches_of
from pipeline_lib.volumes.names import VOLUME_FILES

BASE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> Config:
    """The paper's data sets."""
    return load_config(BASE / "config" / "mots.yaml", BASE)


@pytest.fixture
def folder(config, tmp_path) -> Path:
    """The volumes of 210 cases, all made."""
    dataset = config.dataset("kits19")
    folder = tmp_path / dataset.name
    for batch, cases in batches_of(dataset).items():
        for case in cases:
            (folder / case).mkdir(parents=True)
            for name in VOLUME_FILES:
                (folder / case / name).touch()
        (folder / f"batch_{batch}.txt").write_text("".join(f"{case}\n" for case in cases))
    (folder / "cases.csv").touch()
    return folder


def lists_in(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.*")}


def test_every_used_case_is_in_one_batch(config):
    for dataset in config.all_datasets:
        batches = batches_of(dataset)
        assert [case for cases in batches.values() for case in cases] == list(dataset.used_cases)
        assert max(map(len, batches.values())) <= CASES_PER_JOB


def test_where_all_are_there_nothing_is_forgotten(config, folder):
    before = lists_in(folder)
    assert list(forget_lost_volumes(config, folder.parent)) == []
    assert lists_in(folder) == before


@pytest.mark.parametrize("name", VOLUME_FILES)
def test_the_lists_that_name_a_lost_volume_go_and_no_others(config, folder, name):
    before, lost = lists_in(folder), batches_of(config.dataset("kits19"))["0003"][4]
    (folder / lost / name).unlink()
    assert list(forget_lost_volumes(config, folder.parent)) == [folder / lost]
    assert before - lists_in(folder) == {"batch_0003.txt", "cases.csv"}


def test_a_volume_that_no_list_names_is_not_taken_for_made(config, folder):
    """It was made before an edit that reran the batch without it."""
    path = folder / "batch_0002.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert list(forget_lost_volumes(config, folder.parent)) == []
    assert not path.exists()
    assert not (folder / "cases.csv").exists()


def test_cases_that_move_to_another_batch_are_not_made_again(config, folder):
    dataset = config.dataset("kits19")
    first = dataset.used_cases[0]
    fewer = Dataset.model_validate(dataset.model_dump() | {"skip": [{"case": first, "reason": "found faulty"}]})
    datasets = config.datasets.model_copy(update={"partially_labelled": (fewer,), "fully_labelled": None})
    before = lists_in(folder)
    assert batches_of(fewer)["0000"] != batches_of(dataset)["0000"]
    assert list(forget_lost_volumes(config.model_copy(update={"datasets": datasets}), folder.parent)) == []
    assert lists_in(folder) == before
