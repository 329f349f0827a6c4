"""From published files to the report: fetched over a bad line, then the network cut off, raw cases deleted."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import deque
from pathlib import Path

import pandas as pd
import pytest

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.phantom import Phantom
from pipeline_lib.stages.acquire import run as acquire
from pipeline_lib.stages.acquire.settings import Execution as AcquireExecution
from pipeline_lib.stages.acquire.settings import Settings as AcquireSettings
from tests.support.faulty_server import Fault, FaultyServer

from .conftest import Project
from .network import CutNetwork

LIVERS = {
    "name": "livers",
    "layout": "msd",
    "root": "Task",
    "labels": {"liver": [1, 2], "liver_tumor": [2]},
    "licence": "made by Lacuna",
}
KIDNEYS = {
    "name": "kidneys",
    "layout": "kits19",
    "labels": {"kidney": [1, 2], "kidney_tumor": [2]},
    "licence": "made by Lacuna",
}


def phantoms(content: dict, folder: Path, rois: tuple[str, ...]) -> Dataset:
    """Make three cases in the layout of a data set below `folder`."""
    source = {"kind": "phantom", "cases": 3, "region": "upper_abdomen", "spacing_mm": [9, 9, 9]}
    dataset = Dataset.model_validate({**content, "source": source})
    settings = AcquireSettings(dataset=dataset, phantom=Phantom(), rois=rois, seed=0)
    outputs = acquire.Outputs(folder / "manifest.json", folder.with_name("truth"))
    acquire.run(settings, AcquireExecution(), acquire.Inputs(), outputs)
    return dataset


@pytest.fixture(scope="module")
def online(tmp_path_factory, tiny_content):
    """A config whose two data sets are fetched from a server of this test, and the server."""
    folder = tmp_path_factory.mktemp("published")
    rois = [roi for roi in tiny_content["rois"] if roi["name"] != "spleen"]
    names = tuple(roi["name"] for roi in rois)
    server = FaultyServer()
    livers = phantoms(LIVERS, folder / "livers", names)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder / "livers" / "Task", "Task")
    server.files["Task.tar"] = packed.getvalue()
    archive = {"url": server.url("Task.tar"), "path": "Task.tar", "md5": hashlib.md5(packed.getvalue()).hexdigest()}
    kidneys = phantoms(KIDNEYS, folder / "kidneys", names)
    for path in (folder / "kidneys" / "data").rglob("*.nii.gz"):
        server.files[path.relative_to(folder / "kidneys").as_posix()] = path.read_bytes()
    files = [
        {"url": server.url(f"data/{{case}}/{name}"), "path": f"data/{{case}}/{name}"}
        for name in ("imaging.nii.gz", "segmentation.nii.gz")
    ]
    content = {
        **copy.deepcopy(tiny_content),
        "rois": rois,
        "datasets": {
            "partially_labelled": [
                {**LIVERS, "source": {"kind": "download", "files": [archive]}, "cases": list(livers.all_cases)},
                {
                    **{**KIDNEYS, "split": "all_training", "cases": list(kidneys.all_cases)},
                    "source": {"kind": "download", "per_case": files},
                },
            ]
        },
        "storage": {"keep_archives": False, "keep_raw_cases": False},
        "methods": {"baseline": {"kind": "labels_alone", "network": "swin_unetr", "encoder": "wordllama"}},
        "compare": ["baseline"],
        "scores": {"truth": "labelled"},
    }
    yield Project(tmp_path_factory.mktemp("downloads"), content), server
    server.close()


@pytest.fixture(scope="module")
def offline(online, tmp_path_factory) -> Project:
    """The same after `raw_data` from a server that fails at first, and everything else without a network."""
    project, server = online
    server.faults["Task.tar"] = deque([Fault("truncated", after=1000), Fault("status", status=503)])
    server.faults["data/case_00001/imaging.nii.gz"] = deque([Fault("page")])
    fetched = project.run("--cores", "2", "raw_data", environment={"NO_PROXY": "127.0.0.1"})
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    server.close()
    cut = CutNetwork(tmp_path_factory.mktemp("cut"))
    jobs = cut.job_server(Path(tempfile.mkdtemp(prefix="jobs-", dir="/tmp")))
    try:
        done = project.run("--cores", "2", before=cut.before, environment=jobs.environment)
    finally:
        jobs.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert cut.attempts == ""
    return project


def raw_files(project: Project) -> set[str]:
    raw = project.folder / "resources" / "raw"
    return {
        path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file() and ".acquire" not in path.parts
    }


def test_the_cut_is_one(tmp_path):
    cut = CutNetwork(tmp_path)
    call = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([*cut.before, sys.executable, "-c", call], env={**os.environ, **cut.environment})
    assert done.returncode != 0
    assert "192.0.2.1" in cut.attempts


def test_all_stages_after_acquire_do_without_a_network(offline):
    results = offline.folder / "results"
    assert (results / "report" / "index.html").is_file()
    scores = pd.read_csv(results / "scores" / "baseline-seed0.csv")
    assert list(scores["roi"]) == ["liver", "liver_tumor"]


def test_of_the_raw_cases_only_labels_of_test_cases_are_left_and_nothing_reruns(offline):
    assert raw_files(offline) == {
        *("livers/manifest.json", "livers/deleted.json", "livers/Task/dataset.json"),
        "livers/Task/labelsTr/livers_000.nii.gz",
        *("kidneys/manifest.json", "kidneys/deleted.json"),
    }
    assert offline.planned() == {}
    assert offline.edited("storage", {}).planned() == {}


def test_a_case_that_is_skipped_later_costs_neither_downloads_nor_volumes(offline):
    skip = [{"case": "livers_001", "reason": "found faulty"}]
    planned = offline.edited("datasets/partially_labelled/0/skip", skip).planned()
    assert {"list_cases", "score_existence", "train"} <= set(planned)
    assert not {"acquire_published", "resample"} & set(planned)


def test_a_volume_that_needs_its_raw_case_again_says_so_in_one_line(offline):
    done = offline.edited("volumes/spacing_mm", [8, 8, 9]).run("--cores", "1", "results/volumes/livers/batch_0000.txt")
    assert done.returncode != 0
    assert "livers_000.nii.gz: is missing; bring it back with `snakemake --forcerun resources/raw/" in done.stderr
    back = offline.planned("--forcerun", "resources/raw/livers/manifest.json")
    assert back["acquire_published"] == 1, "that data set's and no other's"
