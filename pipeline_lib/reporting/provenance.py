"""What made a report: code, versions, hardware, and what each stage cost by Snakemake's benchmark files."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from ..machine import processor
from ..version import DISTRIBUTION, installed

_PACKAGES = (DISTRIBUTION, "torch", "monai", "numpy", "SimpleITK", "blosc2", "scipy", "snakemake")


_CODE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Origin:
    """What made a report.

    `facts` and `notice` are as in `experiment`; `fingerprint` is equal for equal settings of everything that is shown;
    `costs` as below.
    """

    facts: list[tuple[str, str]]
    notice: str
    fingerprint: str
    versions: Mapping[str, str]
    trained_on: str
    hardware: str
    costs: pd.DataFrame


def commit() -> str:
    """The git commit of the code, and whether files differ from it; empty where the code is not in a repository."""
    top = _git("rev-parse", "--show-toplevel")
    if not top or Path(top).resolve() != _CODE:
        return ""
    changed = ", with local changes" if _git("status", "--porcelain", "--untracked-files=no") else ""
    return f"commit {_git('rev-parse', '--short=10', 'HEAD')}{changed}"


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    return {"Python": platform.python_version(), **installed(_PACKAGES)}


def hardware() -> str:
    """The machine on which the report is made."""
    gpus = "".join(f", {gpu}" for gpu in _gpus())
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    return f"{platform.system()} {platform.machine()}, {processor()}, {os.cpu_count()} cores, {memory}{gpus}"


def trained_on(histories: Iterable[pd.DataFrame]) -> str:
    """Processors that the trainings ran on, by their histories; empty where none names one."""
    found = [name for table in histories if "hardware" in table for name in table["hardware"].dropna().unique()]
    return ", ".join(dict.fromkeys(found))


def costs(folder: Path | None) -> pd.DataFrame:
    """Per stage, from the benchmark files STAGE.tsv and STAGE/**.tsv: jobs, total and longest minutes, peak GiB."""
    columns = ["stage", "jobs", "total_minutes", "longest_minutes", "peak_memory_gib"]
    if folder is None or not folder.is_dir():
        return pd.DataFrame(columns=columns)
    parts = []
    for file in sorted(folder.rglob("*.tsv")):
        # Snakemake writes NA for a job that ended before its first sample.
        table = pd.read_csv(file, sep="\t", na_values=["NA", "-"])
        stage = file.relative_to(folder).parts[0].removesuffix(".tsv")
        parts.append(pd.DataFrame({"stage": stage, "s": table["s"], "max_rss": table["max_rss"]}))
    if not parts:
        return pd.DataFrame(columns=columns)
    rows = []
    for stage, jobs in pd.concat(parts).groupby("stage", sort=False):
        minutes = jobs["s"] / 60
        rows.append((stage, len(jobs), minutes.sum(), minutes.max(), jobs["max_rss"].max() / 1024))
    return pd.DataFrame(rows, columns=columns)


def _gpus() -> list[str]:
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split("\n")[:-1] if listed.returncode == 0 else []


def _git(*words: str) -> str:
    """Output of a git command on the code's folder; empty where there is no git or it fails."""
    try:
        done = subprocess.run(["git", "-C", str(_CODE), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
