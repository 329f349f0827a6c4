"""A finished run of the tiny config, shared by the tests of the graph, and small tools around snakemake."""

from __future__ import annotations

import copy
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from .forked import forked_snakemake
from .job_server import JobServer

BASE = Path(__file__).parents[2]
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
CODE = ("Snakefile", "workflow", "pipeline_lib", "config", "environment.yml")
HERE = "that checkout's code ran"


@cache
def job_server() -> JobServer:
    """This process's own, started when a test first runs jobs."""
    return JobServer(Path(tempfile.mkdtemp(prefix="jobs-", dir="/tmp")))


@pytest.fixture(scope="session", autouse=True)
def _job_server_ends():
    yield
    if job_server.cache_info().currsize:
        job_server().close()


@dataclass(frozen=True)
class Project:
    """A working directory and a config file for runs of the pipeline in it."""

    folder: Path
    content: dict

    def edited(self, path: str, value: object) -> Project:
        """The same folder with one key of the config changed; `path` is like `roi_aware/width`."""
        content = copy.deepcopy(self.content)
        *parents, last = path.split("/")
        place = content
        for parent in parents:
            place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
        place[int(last) if isinstance(place, list) else last] = value
        return Project(self.folder, content)

    def arguments(self, *more: str) -> list[str]:
        configfile = self.folder / "config.yaml"
        configfile.write_text(yaml.safe_dump(self.content, sort_keys=False))
        return [
            *("--snakefile", str(BASE / "Snakefile"), "--directory", str(self.folder)),
            *("--configfile", str(configfile), *more),
        ]

    def command(self, *arguments: str) -> list[str]:
        return [str(SNAKEMAKE), *self.arguments(*arguments)]

    def run(
        self, *arguments: str, before: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Call snakemake; `before` is a command that it is run by, `environment` what it sees beside this process's."""
        return subprocess.run(
            [*before, *self.command(*arguments)],
            cwd=BASE,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=800,
        )

    def run_forked(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same for jobs that import torch: they are forked from this process's job server."""
        return self.run(*arguments, environment=job_server().environment)

    def dry_run(self, *arguments: str, gpus: int | None = None) -> subprocess.CompletedProcess[str]:
        """A dry run, which must succeed; `gpus` is how many it finds on this machine, if not the real number."""
        done = forked_snakemake(self.arguments("--dry-run", *arguments), BASE, gpus)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rule → number of jobs that a dry run would start, `all` left out."""
        return planned_jobs(self.dry_run(*arguments).stdout)


def planned_jobs(output: str) -> dict[str, int]:
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal", output, re.DOTALL)
    if table is None:
        assert "Nothing to be done" in output
        return {}
    jobs = dict(line.split() for line in table.group(1).splitlines())
    return {rule: int(count) for rule, count in jobs.items() if rule != "all"}


def inputs_by_rule(output: str) -> dict[str, str]:
    """Rule → everything that a dry run lists as its inputs."""
    found: dict[str, str] = {}
    for rule, inputs in re.findall(r"^(?:local)?rule (\w+):\n    input: (.*)$", output, re.MULTILINE):
        found[rule] = found.get(rule, "") + inputs
    return found


@pytest.fixture(scope="session")
def tiny_content() -> dict:
    return yaml.safe_load((BASE / "tests" / "configs" / "tiny.yaml").read_text())


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny_content) -> Project:
    """The tiny config with two methods, run to its end: once for all processes of pytest, each of which has a copy."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "finished"
    shared.mkdir(exist_ok=True)
    project = Project(shared / "tiny", {**tiny_content, "compare": ["baseline", "latent_class"]})
    ended = shared / "ended"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ended.exists():
            project.folder.mkdir(exist_ok=True)
            done = project.run_forked("--cores", "2")
            assert done.returncode == 0, done.stdout + done.stderr
            ended.touch()
    folder = tmp_path_factory.mktemp("finished") / "tiny"
    subprocess.run(["cp", "-a", str(project.folder), str(folder)], check=True)
    return Project(folder, project.content)


def copied(project: Project, folder: Path, how: str = "-a") -> Project:
    """The project with all that it has made, copied with `cp HOW` into another folder."""
    for name in ("resources", "results", "models", ".snakemake"):
        subprocess.run(["cp", how, str(project.folder / name), str(folder / name)], check=True)
    return Project(folder, project.content)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """Another checkout, whose stage acquire says that it ran."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in CODE:
        source = BASE / name
        # What is compiled stays valid, since the copies keep their dates; files that are being written vanish.
        ignored = shutil.ignore_patterns("node_modules", "*.pyc.*")
        shutil.copytree(source, copy / name, ignore=ignored) if source.is_dir() else shutil.copy(source, copy)
    stage = copy / "pipeline_lib" / "stages" / "acquire" / "run.py"
    text = stage.read_text().replace('if __name__ == "__main__":', f'if __name__ == "__main__":\n    say("{HERE}")')
    stage.write_text(text)
    return copy


def called(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call snakemake in `folder`, where the package is installed as it is, and not by PYTHONPATH."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [SNAKEMAKE, *arguments],
        cwd=folder,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=280,
    )
