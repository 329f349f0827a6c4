"""Snakemake in processes forked from one that has imported it already: most of what a dry run costs is the import."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline_lib import machine

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    [
        *("pytest", "snakemake.cli", "snakemake_executor_plugin_slurm", "pipeline_lib.stages.settings", __name__),
        # What each call imports when it needs it.
        *("smart_open", "snakemake.report.html_reporter", "pipeline_lib.tools.disk", "pipeline_lib.tools.terminal"),
    ]
)
_PATIENCE_SECONDS = 280


def forked_snakemake(arguments: list[str], folder: Path, gpus: int | None = None) -> subprocess.CompletedProcess[str]:
    """Call Snakemake in `folder`, on a machine with `gpus` GPUs, or as many as there are.

    For calls that run no job: jobs' signals and last words need a process of its own.
    """
    with TemporaryDirectory() as outputs:
        printed = [Path(outputs) / name for name in ("stdout", "stderr")]
        process = _FORKED.Process(target=_snakemake, args=(arguments, folder, printed, dict(os.environ), gpus))
        process.start()
        process.join(_PATIENCE_SECONDS)
        process.kill()
        process.join()
        stdout, stderr = (file.read_text() if file.exists() else "" for file in printed)
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _snakemake(
    arguments: list[str], folder: Path, printed: list[Path], environment: dict[str, str], gpus: int | None
) -> None:
    for number, file in enumerate(printed, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["snakemake", *arguments]
    if gpus is not None:
        machine.visible_gpus = lambda: gpus
    from snakemake.cli import main

    main(arguments)
