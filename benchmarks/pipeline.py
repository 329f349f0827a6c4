"""Time the whole pipeline as a user meets it, and write the figures into docs/performance.md.

    python benchmarks/pipeline.py [--folder FOLDER] [--tests]

In an empty folder: the first run on all cores (`make demo` after the install), a second run that finds nothing to do,
and a dry run of the paper's config. Peak memory is that of the largest process of each stage, from Snakemake's own
benchmark files. `--tests` times `make test` too.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

BASE = Path(__file__).parents[1]
PAGE = BASE / "docs" / "performance.md"
START, END = "<!-- pipeline: start -->", "<!-- pipeline: end -->"


def seconds_of(*command: str) -> tuple[float, str]:
    """Wall-clock seconds and output of a command that must succeed."""
    started = time.perf_counter()
    finished = subprocess.run(command, cwd=BASE, capture_output=True, text=True)
    if finished.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{finished.stdout}\n{finished.stderr}")
    return time.perf_counter() - started, finished.stdout + finished.stderr


def stage_rows(folder: Path) -> list[str]:
    """One table row per stage: jobs, summed seconds, largest process in MB."""
    rows = []
    root = folder / "results" / "benchmarks"
    stages = sorted({path.relative_to(root).parts[0].removesuffix(".tsv") for path in root.rglob("*.tsv")})
    for stage in stages:
        files = [root / f"{stage}.tsv"] if (root / f"{stage}.tsv").exists() else sorted((root / stage).rglob("*.tsv"))
        jobs = pd.concat([pd.read_csv(file, sep="\t", na_values="-") for file in files])
        memory = f"{jobs['max_rss'].max():.0f}" if jobs["max_rss"].notna().any() else "too short to see"
        rows.append(f"| {stage} | {len(jobs)} | {jobs['s'].sum():.0f} | {jobs['s'].max():.0f} | {memory} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="empty folder to work in (default: a temporary one)")
    parser.add_argument("--tests", action="store_true", help="time `make test` too")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="lacuna-benchmark-"))
    snakemake = [str(Path(sys.executable).parent / "snakemake"), "--directory", str(folder)]

    first, _ = seconds_of(*snakemake, "--cores", "all")
    second, output = seconds_of(*snakemake, "--cores", "all")
    if "Nothing to be done" not in output:
        sys.exit(f"the second run found something to do:\n{output}")
    with tempfile.TemporaryDirectory() as empty:
        paper, _ = seconds_of(
            *snakemake[:1], "--directory", empty, "--dry-run", "--quiet", "--configfile", str(BASE / "config/mots.yaml")
        )
    lines = [
        START,
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores ({platform.machine()}), no GPU, Python "
        f"{platform.python_version()}: `python benchmarks/pipeline.py`",
        "",
        "| command | seconds | to reach |",
        "|---|---|---|",
        f"| `snakemake --cores all`, the demo from an empty folder | {first:.0f} | 600 |",
        f"| the same again: nothing to do | {second:.1f} | 10 |",
        f"| `snakemake -n --configfile config/mots.yaml` | {paper:.1f} | 15 |",
    ]
    if given.tests:
        tests, _ = seconds_of("make", "test")
        lines.append(f"| `make test` | {tests:.0f} | 600 |")
    lines += [
        "",
        "| stage | jobs | seconds in all | longest | largest process, MB |",
        "|---|---|---|---|---|",
        *stage_rows(folder),
        END,
    ]
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    PAGE.write_text(before + "\n".join(lines) + rest.partition(END)[2], encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
