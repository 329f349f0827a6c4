"""Runs of the real pipeline for these tests: its config, its profile, and a training that is held for a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import yaml

from tests.slurm.loopback import wait_until

PROJECT = Path(__file__).parents[2]
PATIENCE_SECONDS = 900
QUICK = {
    "slurm-status-command": "squeue",
    "slurm-init-seconds-before-status-checks": 4,
    "seconds-between-status-checks": 4,
    "slurm-keep-successful-logs": True,
    "latency-wait": 10,
    "retries": 5,
}


def write_config(folder: Path) -> Path:
    """The tiny config with fewer cases of three data sets, one method and six steps of four crops, on the CPU."""
    content = yaml.safe_load((PROJECT / "tests/configs/tiny.yaml").read_text())
    datasets = content["datasets"]
    partial = [one for one in datasets["partially_labelled"] if one["name"] in ("tiny_liver", "tiny_spleen")]
    for dataset in (*partial, datasets["fully_labelled"]):
        dataset["source"]["cases"] = 3
    datasets["partially_labelled"] = partial
    content["rois"] = [roi for roi in content["rois"] if any(roi["name"] in one["labels"] for one in partial)]
    content["compare"] = ["latent_class"]
    content["segmentation"] |= {"epochs": 6, "batch_size": 4}
    content["execution"]["device"] = content["roi_aware"]["execution"]["device"] = "cpu"
    return _written(content, folder / "config.yaml")


def write_profile(folder: Path, **training: int | str) -> Path:
    """The project's SLURM profile with quicker looks at the queue, small sizes, and `training` for rule train."""
    content = yaml.safe_load((PROJECT / "workflow/profiles/slurm/config.yaml").read_text()) | QUICK
    content["set-threads"] = dict.fromkeys(content["set-threads"], 1)
    content["set-resources"]["train"] |= {"mem_mb": "min(attempt, 2) * 4000", **training}
    return _written(content, folder / "profile" / "config.yaml").parent


def _written(content: dict[str, object], path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


class Run:
    """A Snakemake at work in `folder`."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self.folder = folder
        self.log = folder / "snakemake.log"
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")]
        command += ["--directory", str(folder), "--configfile", str(write_config(folder)), *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=PROJECT)

    def finish(self) -> None:
        """Wait for the end, which must be a good one."""
        try:
            code: int | None = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        assert code == 0, f"ended with {code}\n{self.messages()}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def messages(self) -> str:
        """What Snakemake and all its SLURM jobs have printed."""
        logs = [self.log, *sorted(self.folder.glob(".snakemake/slurm_logs/**/*.log"))]
        return "".join(log.read_text() for log in logs)

    def training_is_under_way(self) -> bool:
        """Whether a step is done: the history has a row for each."""
        assert self.process.poll() is None, f"ended too early\n{self.messages()}"
        histories = self.folder.glob("work/train/*/history.jsonl")
        return any(history.read_bytes().count(b"\n") >= 1 for history in histories)

    def hold_training(self) -> None:
        """Wait until the training is under way and halt it; it continues when each of its processes has SIGTERM.

        So a training of seconds is in the middle of its steps when SLURM's signal comes, however fast the machine.
        """
        wait_until(self.training_is_under_way, PATIENCE_SECONDS, "training under way")
        processes = self._training_processes()
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        Thread(target=_release_when_told_to_stop, args=(processes,), daemon=True).start()

    def _training_processes(self) -> list[int]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
                here = (process / "cwd").readlink() == self.folder
            except OSError:
                continue
            if here and arguments[1:3] == [b"-m", b"pipeline_lib.stages.train.run"]:
                found.append(int(process.name))
        assert found, "no process of the training found"
        return found


def _release_when_told_to_stop(processes: list[int]) -> None:
    try:
        wait_until(lambda: all(map(_was_told_to_stop, processes)), PATIENCE_SECONDS, "SIGTERM for each process")
    finally:
        for process in filter(_is_halted, processes):
            os.kill(process, signal.SIGCONT)


def _was_told_to_stop(process: int) -> bool:
    """Whether a halted process has a SIGTERM waiting, or is no longer halted because SLURM itself sent SIGCONT."""
    waiting = int(_status(process).get("ShdPnd", "0"), 16)
    return not _is_halted(process) or bool(waiting >> (signal.SIGTERM - 1) & 1)


def _is_halted(process: int) -> bool:
    return _status(process).get("State", "").startswith("T")


def _status(process: int) -> dict[str, str]:
    """The kernel's `/proc/PROCESS/status`, empty for a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
