"""Time and memory of `snakemake --dry-run` with thousands of cases.

    python benchmarks/many_cases.py [CASES ...]        (default: 20000 100000)

The paper's config, whose fully labelled data set lists CASES cases in place of its own. For each number three dry runs:
in an empty folder; again, where the settings files are there already; and where all volumes are there, as empty files.
Processor seconds are those of user and system together.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from pipeline_lib.config.loading import load_config
from pipeline_lib.stages.resample.settings import batches_of
from pipeline_lib.volumes.batch_list import write_batch_list
from pipeline_lib.volumes.names import VOLUME_FILES

BASE = Path(__file__).parents[1]


def write_config(cases: int, folder: Path) -> Path:
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


def make_stand_ins(config: Path, folder: Path) -> None:
    """Empty files in place of all volumes of the fully labelled data set."""
    dataset = load_config(config).datasets.fully_labelled
    for batch, cases in batches_of(dataset).items():
        for case in cases:
            volume = folder / "results" / "volumes" / dataset.name / case
            volume.mkdir(parents=True)
            for name in VOLUME_FILES:
                (volume / name).touch()
        write_batch_list(volume.parent / f"batch_{batch}.txt", cases)


def dry_run(config: Path, folder: Path) -> str:
    """A table row's end: wall-clock seconds, processor seconds and MB of a dry run."""
    snakemake = str(Path(sys.executable).parent / "snakemake")
    command = [snakemake, "--directory", str(folder), "--dry-run", "--quiet", "--configfile", str(config)]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=BASE, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{errors.read()}")
    seconds, processor = time.perf_counter() - started, used.ru_utime + used.ru_stime
    return f"{seconds:.1f} | {processor:.1f} | {used.ru_maxrss / 1024:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=int, nargs="*", default=[20_000, 100_000])
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}")
    print("| cases | dry run | seconds | processor s | MB |\n|---|---|---|---|---|")
    for cases in parser.parse_args().cases:
        with tempfile.TemporaryDirectory() as temporary:
            config, folder = write_config(cases, Path(temporary)), Path(temporary) / "work_here"
            folder.mkdir()
            print(f"| {cases:,} | in an empty folder | {dry_run(config, folder)}", flush=True)
            print(f"| {cases:,} | again | {dry_run(config, folder)}", flush=True)
            make_stand_ins(config, folder)
            print(f"| {cases:,} | all volumes there | {dry_run(config, folder)}", flush=True)


if __name__ == "__main__":
    main()
