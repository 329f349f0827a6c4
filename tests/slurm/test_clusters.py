"""The pipeline through the SLURM profile: whole, over a time limit, and on two nodes with pre-emption.

Each interrupted training must end with the weights of the one that nothing interrupted, to the bit. What mostly
waits for SLURM is started early, as a fixture, and works beside the other tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.slurm.loopback import Slurm
from tests.slurm.pipeline import Run, write_profile

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(2000)]

MADE_FROM_HERE_ON = (
    ".snakemake", "benchmarks", "logs", "models", "predictions", "report", "scores", "work"
)  # fmt: skip
Start = Callable[..., Run]


@pytest.fixture(scope="module")
def start(slurm) -> Iterator[Start]:
    """Starts runs, and ends those that still work when the tests are over."""
    started: list[Run] = []

    def run(folder: Path, *arguments: str) -> Run:
        started.append(Run(folder, slurm.environment, *arguments))
        return started[-1]

    yield run
    for one in started:
        one.stop()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, start) -> Run:
    """The pipeline up to the training, which has four processes on one node and is not interrupted."""
    folder = tmp_path_factory.mktemp("whole").resolve()
    run = start(folder, "--workflow-profile", str(write_profile(folder, gpu=4)), "models")
    run.finish()
    return run


@pytest.fixture(scope="module")
def limited(trained, tmp_path_factory, start) -> Run:
    """The same training under way in a job of two minutes, which it will not keep to."""
    folder = untrained(trained, tmp_path_factory.mktemp("limited"))
    profile = write_profile(folder, gpu=4, runtime=2, slurm_extra="'--signal=TERM@45'")
    run = start(folder, "--workflow-profile", str(profile), "models")
    run.hold_training()
    return run


@pytest.fixture(scope="module")
def evaluated(trained, limited, start) -> Run:
    """The pipeline from the training on, at work in the folder of `trained`."""
    return start(trained.folder, "--workflow-profile", str(write_profile(trained.folder, gpu=4)))


def untrained(trained: Run, folder: Path) -> Path:
    """A copy of all that a training needs, and nothing after that, in `folder`."""
    copy = folder.resolve() / "copy"
    return Path(shutil.copytree(trained.folder, copy, ignore=shutil.ignore_patterns(*MADE_FROM_HERE_ON)))


def weights(run: Run) -> dict[str, np.ndarray]:
    return load_file(run.folder / "results/models/latent_class-seed0/model.safetensors")


def assert_same_weights(one: Run, other: Run) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not np.array_equal(ours[name], theirs[name])]
    assert not different, f"{len(different)} of {len(ours)} tensors differ, such as {different[:3]}"


def jobs_of(name: str, run: Run, slurm: Slurm) -> list[dict[str, str]]:
    """What SLURM knows of the jobs in one run's folder whose comment begins with the rule's or group's `name`."""
    here = [job for job in slurm.jobs() if job["WorkDir"] == str(run.folder)]
    return [job for job in here if job["Comment"].startswith(f"rule_{name}_")]


def test_a_preempted_training_on_two_nodes_is_requeued(trained, limited, evaluated, slurm, start, tmp_path):
    folder = untrained(trained, tmp_path)
    srun = "srun --nodes=2 --ntasks-per-node=1 --cpus-per-task=1"
    two_nodes = {"gpu": 0, "gres": "gpu:2", "nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "mpi": srun}
    run = start(folder, "--workflow-profile", str(write_profile(folder, **two_nodes)), "models")
    run.hold_training()
    urgent = ("--partition=high", "--nodelist=n2", "--exclusive", "--output=/dev/null")
    slurm.command("sbatch", *urgent, "--wrap=sleep 1")
    run.finish()
    (job,) = jobs_of("train_wildcards", run, slurm)
    assert (job["NumNodes"], job["Restarts"]) == ("2", "1")
    assert run.messages().count("Exited with exit code 143") == 2, "both nodes were to stop by themselves"
    assert "resuming after step" in run.messages()
    assert_same_weights(run, trained)


def test_a_training_over_its_time_limit_resumes_in_a_retry(limited, trained, slurm):
    limited.finish()
    jobs = jobs_of("train_wildcards", limited, slurm)
    states = [job["JobState"] for job in jobs]
    assert "FAILED" in states[:-1], "it was to stop before its limit; SLURM would call a job that did not TIMEOUT"
    assert states[-1] == "COMPLETED"
    assert [job["MinMemoryNode"] for job in jobs[:2]] == ["4000M", "8000M"]
    assert "resuming after step" in limited.messages()
    assert_same_weights(limited, trained)


def test_the_whole_pipeline_runs_through_the_profile(evaluated, slurm):
    evaluated.finish()
    assert (evaluated.folder / "results/report/index.html").is_file()
    assert {job["NumCPUs"] for job in jobs_of("resample", evaluated, slurm)} == {"1"}
    assert len(jobs_of("lists", evaluated, slurm)) == 1
    assert len(jobs_of("evaluation", evaluated, slurm)) == 1
    (training,) = jobs_of("train_wildcards", evaluated, slurm)
    assert training["TresPerJob"] == "gres:gpu:4"
    assert training["TimeLimit"] == "1-00:00:00"
