"""Time and memory of `snakemake --dry-run` with thousands of cases.

    python benchmarks/many_cases.py [CASES ...]        (default: 20000)

The paper's config, whose fully labelled data set lists CASES more cases that were never acquired. For each number: the
first dry run in an empty folder, one more (settings files are there already), and one after all volumes are made, whose
files are empty stand-ins. Processor seconds are those of user and system together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

BASE = Path(__file__).parents[1]


def config_of(cases: int, folder: Path) -> Path:
    """A config in `folder` that is the paper's, with `cases` cases in its fully labelled data set."""
    content = yaml.safe_load((BASE / "config" / "mots.yaml").read_text(encoding="utf-8"))
    name = content["datasets"]["fully_labelled"]
    dataset = yaml.safe_load((BASE / "config" / "datasets" / f"{name}.yaml").read_text(encoding="utf-8"))
    dataset.update(cases="cases.txt", skip=[], doubted=[])
    datasets = folder / "datasets"
    datasets.mkdir()
    (datasets / "cases.txt").write_text("".join(f"s{number:06d}\n" for number in range(cases)), encoding="utf-8")
    (datasets / f"{name}.yaml").write_text(yaml.safe_dump(dataset), encoding="utf-8")
    config = folder / "many_cases.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return config


def dry_run(config: Path, folder: Path) -> tuple[float, float, float]:
    """Wall-clock and processor seconds of a dry run, and the MB of its largest process."""
    snakemake = str(Path(sys.executable).parent / "snakemake")
    command = [snakemake, "--directory", str(folder), "--dry-run", "--quiet", "--configfile", str(config)]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=BASE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{errors}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    c = config_of(int(sys.argv[1]), Path(sys.argv[2]))
    (Path(sys.argv[2]) / "work_here").mkdir()
    for _ in range(2):
        print(dry_run(c, Path(sys.argv[2]) / "work_here"), flush=True)
