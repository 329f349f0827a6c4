"""The pipeline through the SLURM profile: whole, over a time limit, and on two nodes with pre-emption.

Each interrupted training must end with the weights of the one that nothing interrupted, to the bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback import Slurm
from pipeline import Run, write_profile
from safetensors.numpy import load_file

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]

MADE_BY_TRAINING = ("segmentation", "predictions", "scores", "report", "work", "logs", "benchmarks", ".snakemake")
Start = Callable[..., Run]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts runs, and ends those that still work when the tests are over."""
    started: list[Run] = []

    def run(folder: Path, slurm: Slurm, *arguments: str) -> Run:
        started.append(Run(folder, slurm.environment, *arguments))
        return started[-1]

    yield run
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, slurm, start) -> Run:
    """The whole pipeline through the profile; the training has two processes on one node."""
    folder = tmp_path_factory.mktemp("whole").resolve()
    run = start(folder, slurm, "--workflow-profile", str(write_profile(folder, gpu=2)))
    run.finish()
    return run


@pytest.fixture
def trained_again(whole, tmp_path) -> Path:
    """A folder with everything that a training needs, and no training."""
    folder = tmp_path.resolve() / "again"
    shutil.copytree(whole.folder, folder, ignore=shutil.ignore_patterns(*MADE_BY_TRAINING))
    return folder


def weights(run: Run) -> dict[str, np.ndarray]:
    return load_file(run.folder / "results/segmentation/latent_class/model.safetensors")


def assert_same_weights(one: Run, other: Run) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not np.array_equal(ours[name], theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, e.g. {different[:3]}"


def jobs_of(rule: str, run: Run, slurm: Slurm) -> list[dict[str, str]]:
    """The SLURM jobs of a rule or group of one run."""
    return [job for job in slurm.jobs() if job["WorkDir"] == str(run.folder) and rule in job.get("Comment", "")]


def test_the_whole_pipeline_runs_through_the_profile(whole, slurm):
    for job in slurm.jobs():
        print(
            job.get("Comment"),
            job["JobState"],
            job["TRES"],
            job["TimeLimit"],
            job["RunTime"],
            job["SubmitTime"],
            job["StartTime"],
        )
    assert (whole.folder / "results/report/index.html").is_file()


def test_a_training_that_meets_its_time_limit_goes_on_in_a_retry(trained_again, whole, slurm, start):
    profile = write_profile(trained_again, gpu=2, runtime=1, slurm_extra="'--signal=TERM@10'")
    run = start(trained_again, slurm, "--workflow-profile", str(profile), "segmentation")
    with run.held_training():
        pass
    run.finish()
    assert len(jobs_of("train", run, slurm)) >= 2
    assert "stopped after step" in run.messages()
    assert "going on after step" in run.messages()
    assert_same_weights(run, whole)


def test_a_preempted_training_on_two_nodes_is_requeued(trained_again, slurm, start, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(trained_again, alone)
    one_node = ("--cores", "4", "--resources", "gpu=4", "--set-threads", "train=4", "--set-resources", "train:gpu=4")
    uninterrupted = start(alone, slurm, *one_node, "--", "segmentation")
    uninterrupted.finish()

    srun = "srun --nodes=2 --ntasks-per-node=1 --cpus-per-task=1"
    two_nodes = {"gpu": 0, "gres": "gpu:2", "nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "mpi": srun}
    run = start(
        trained_again, slurm, "--workflow-profile", str(write_profile(trained_again, **two_nodes)), "segmentation"
    )
    with run.held_training():
        slurm.command("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")
    run.finish()
    (job,) = jobs_of("train", run, slurm)
    assert job["Restarts"] == "1"
    assert job["NumNodes"] == "2"
    assert "stopped after step" in run.messages()
    assert "going on after step" in run.messages()
    assert_same_weights(run, uninterrupted)
