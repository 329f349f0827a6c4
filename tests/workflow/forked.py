"""Snakemake in processes forked from one that has imported it already: most of what a dry run costs is the import."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(
    ["pytest", "snakemake.cli", "snakemake_executor_plugin_slurm", "pipeline_lib.stages.settings", __name__]
)
_PATIENCE_SECONDS = 280


def forked_snakemake(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Call Snakemake in `folder`. For dry runs: its jobs' signals and last words need a process of its own."""
    with TemporaryDirectory() as outputs:
        printed = [Path(outputs) / name for name in ("stdout", "stderr")]
        process = _FORKED.Process(target=_snakemake, args=(arguments, folder, printed, dict(os.environ)))
        process.start()
        process.join(_PATIENCE_SECONDS)
        process.kill()
        process.join()
        stdout, stderr = (file.read_text() if file.exists() else "" for file in printed)
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def _snakemake(arguments: list[str], folder: Path, printed: list[Path], environment: dict[str, str]) -> None:
    for number, file in enumerate(printed, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main(arguments)
