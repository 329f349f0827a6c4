"""The graph of the paper's experiment, as a dry run plans it and as its settings tell each stage."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from .conftest import BASE, planned_jobs
from .forked import forked_snakemake

SPLIT = BASE.parent / "shared" / "data" / "mots_split.csv"
FULLY_LABELLED = "totalsegmentator_v1"


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> tuple[Path, str]:
    """An empty folder after a dry run in it, and what that printed."""
    folder = tmp_path_factory.mktemp("mots")
    files = {"--snakefile": BASE / "Snakefile", "--directory": folder, "--configfile": BASE / "config" / "mots.yaml"}
    done = forked_snakemake([*(str(part) for option in files.items() for part in option), "--dry-run"], BASE)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def settings_of(folder: Path, stage: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in (folder / "work" / "settings" / stage).glob("*.json")]


def trained_and_tested(folder: Path) -> set[tuple[str, str, str]]:
    """(data set, case, split) as the stages train and predict are told."""
    train = {
        (dataset, case, "train")
        for method in settings_of(folder, "train")
        for dataset, cases in method["cases"].items()
        for case in cases
    }
    test = {(one["dataset"], case, "test") for one in settings_of(folder, "predict") for case in one["cases"]}
    return train | test


def test_jobs(planned):
    jobs = planned_jobs(planned[1])
    assert jobs["resample"] == sum(-(-cases // 10) for cases in (131, 210, 303, 281, 126, 63, 41, 1204 - 1))
    assert (jobs["acquire_published"], jobs["acquire_encoder"], jobs["list_cases"]) == (8, 1, 8)
    assert (jobs["train_roi_aware"], jobs["score_existence"]) == (1, 7)
    assert (jobs["train"], jobs["predict"], jobs["score"], jobs["write_report"]) == (5, 5 * 7, 5, 1)


def test_every_case_that_is_used_is_resampled_and_no_other(planned):
    folder, output = planned
    batches = re.findall(r"wildcards: dataset=(\w+), batch=(\d+)$", output, re.MULTILINE)
    resampled = {
        (dataset, case)
        for dataset, batch in batches
        for path in (folder / "work" / "execution" / "resample").glob(f"{dataset}-{batch}-*.json")
        for case in json.loads(path.read_text())["cases"]
    }
    (roi_aware,) = settings_of(folder, "train_roi_aware")
    assert len(roi_aware["cases"]) == 1203  # s0864 is corrupt as published, and skipped by name
    assert resampled == {(dataset, case) for dataset, case, _ in trained_and_tested(folder)} | {
        (FULLY_LABELLED, case) for case in roi_aware["cases"]
    }


def test_every_method_trains_on_920_images_and_is_tested_on_235_others(planned):
    folder, _ = planned
    assert len(settings_of(folder, "train")) == 5
    for method in settings_of(folder, "train"):
        assert sum(len(cases) for cases in method["cases"].values()) == 920
    tested = Counter(one["run"] for one in settings_of(folder, "predict") for _ in one["cases"])
    assert len(tested) == 5
    assert set(tested.values()) == {235}
    assert len({(dataset, case) for dataset, case, _ in trained_and_tested(folder)}) == 920 + 235


@pytest.mark.shared
@pytest.mark.skipif(not SPLIT.is_file(), reason="the published split is not beside the checkout")
def test_the_split_is_the_published_one(planned):
    with SPLIT.open(encoding="utf-8") as file:
        published = {(row["dataset"], row["case"], row["split"]) for row in csv.DictReader(file)}
    assert trained_and_tested(planned[0]) == published
