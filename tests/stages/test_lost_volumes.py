"""Batches with volumes that are gone, or that the batch has not made, run again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.schema import Config
from pipeline_lib.stages.resample.lost import why_incomplete
from pipeline_lib.stages.resample.settings import CASES_PER_JOB, batches_of
from pipeline_lib.volumes.batch_list import write_batch_list
from pipeline_lib.volumes.names import VOLUME_FILES

BASE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> Config:
    """The paper's data sets."""
    return load_config(BASE / "config" / "mots.yaml", BASE)


class Made:
    """The volumes of 210 cases as empty files, all made, and the manifest of their raw data set."""

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.dataset, self.folder, self.manifest = dataset, folder, folder / "manifest.json"
        self.manifest.touch()
        for batch, cases in batches_of(dataset).items():
            for case in cases:
                (folder / case).mkdir()
                for name in VOLUME_FILES:
                    (folder / case / name).touch()
            write_batch_list(self.list_of(batch), cases)

    def list_of(self, batch: str) -> Path:
        return self.folder / f"batch_{batch}.txt"

    def incomplete(self, dataset: Dataset | None = None) -> dict[str, str]:
        """Number of each batch that must run → why."""
        batches = batches_of(dataset or self.dataset).items()
        reasons = {batch: why_incomplete(self.list_of(batch), cases, self.manifest) for batch, cases in batches}
        return {batch: reason for batch, reason in reasons.items() if reason}


@pytest.fixture
def made(config, tmp_path) -> Made:
    return Made(config.dataset("kits19"), tmp_path)


def without(dataset: Dataset, case: str) -> Dataset:
    return Dataset.model_validate(dataset.model_dump() | {"skip": [{"case": case, "reason": "found faulty"}]})


def test_every_used_case_is_in_one_batch(config):
    for dataset in config.all_datasets:
        batches = batches_of(dataset)
        assert [case for cases in batches.values() for case in cases] == list(dataset.used_cases)
        assert max(map(len, batches.values())) <= CASES_PER_JOB


def test_where_all_are_there_nothing_must_run(made):
    assert made.incomplete() == {}


@pytest.mark.parametrize("name", VOLUME_FILES)
def test_a_lost_file_makes_its_batch_run_and_no_other(made, name):
    lost = batches_of(made.dataset)["0003"][4]
    (made.folder / lost / name).unlink()
    assert made.incomplete() == {"0003": f"{made.folder / lost} lacks a file"}


def test_a_lost_list_makes_its_batch_run(made):
    made.list_of("0002").unlink()
    assert made.incomplete() == {"0002": "it has no list"}


def test_lists_older_than_the_raw_data_set_are_of_another_one(made):
    """A run stopped after the raw data set was acquired again and the batch 0001 was made of it."""
    dates = {"manifest.json": 1, "batch_0001.txt": 2}
    now = made.manifest.stat().st_mtime + 10
    for name, later in dates.items():
        os.utime(made.folder / name, (now + later, now + later))
    assert set(made.incomplete()) == set(batches_of(made.dataset)) - {"0001"}


def test_a_case_that_moves_to_another_batch_counts_only_once_that_batch_has_run(made):
    """The list of the batch that it was in may be of older settings, and so may its volume."""
    moved = without(made.dataset, batches_of(made.dataset)["0001"][5])
    comes_in = batches_of(made.dataset)["0003"][0]
    assert comes_in in batches_of(moved)["0002"]
    incomplete = made.incomplete(moved)
    assert incomplete["0002"] == f"its list lacks {comes_in}"
    assert "0000" not in incomplete
    write_batch_list(made.list_of("0002"), batches_of(moved)["0002"])
    assert "0002" not in made.incomplete(moved)
