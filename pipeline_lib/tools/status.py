"""Where a run stands, from the files of its working directory alone: on this machine, on a cluster, after its end.

    python -m pipeline_lib.tools.status
    python -m pipeline_lib.tools.status /scratch/study

It prints what the run's terminal shows (stages that are done, running or failed), what is queued, and of each training
under way the step, the speed, the time that is left, the course of its losses and of its validation Dice.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json_lines
from ..progress import Reading, clock
from .run_view import Job, RunView
from .snakemake_log import RunRecord, Started, newest_run
from .tensorboard import find_histories, run_name

_BARS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WIDTH = 32
_SPEED_ROWS = 20
_LATEST_SHARE = 0.05
_SECONDS_WITHOUT_SIGN = 900.0
"""A stage writes a line every ten seconds, but may read or score one large case in silence."""


def status(record: RunRecord) -> Iterator[str]:
    """The lines for the run of `record`, whose working directory is the current one."""
    present = [record.began]
    view = RunView(record.totals, now=lambda: present[0], is_told=True)
    lines: list[str] = []
    for event in record.events:
        present[0] = event.seconds
        if isinstance(event, Started):
            view.start(event.jobid, event.rule, event.wildcards, event.log)
        else:
            lines += view.fail(event.jobids) if event.failed else view.finish(event.jobids[0])
    jobs = [job for row in view.rows.values() for job in row.running.values()]
    last_sign = max([record.last_sign, *(_written_at(job.log.path) for job in jobs)])
    present[0] = record.last_sign if record.is_over else time.time()
    lines += view.poll()
    count = sum(record.totals.values())
    yield f"{', '.join(record.configs)}: {view.done} of {count} jobs are done, {clock(view.elapsed)}"
    yield from lines
    if record.is_over:
        yield from () if view.done < count else view.last
        return
    yield from view.running()
    if view.queued():
        yield "queued   " + ", ".join(f"{rule} {count}" for rule, count in view.queued().items())
    silent = time.time() - last_sign
    if silent > _SECONDS_WITHOUT_SIGN:
        yield f"warning: no sign of life for {clock(silent)}; if it was killed: snakemake --unlock, then the same call"
    histories = {run_name(path): path for path in find_histories(Path()) if path.parts[0] == "work"}
    for job in jobs:
        run = "roi_aware_network" if job.rule == "train_roi_aware" else job.title.partition(" ")[2]
        if run in histories and job.rule.startswith("train"):
            yield from ("", *training(job, read_json_lines(histories[run], growing=True)))


def training(job: Job, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the history of a training under way says: step, speed, time left, each loss, the validation Dice."""
    if not rows:
        return
    reading = job.log.reading
    step = max(rows[-1]["step"], reading.done) if _counts_steps(reading) else rows[-1]["step"]
    recent = rows[-_SPEED_ROWS:]
    speed = sum(row["seconds_per_step"] for row in recent) / len(recent)
    total = reading.total if reading is not None and _counts_steps(reading) else None
    figures = [f"step {step}/{total}, {100 * step / total:.0f} %" if total else f"step {step}"]
    figures += [f"epoch {rows[-1]['epoch']:.1f}", f"{speed:.3g} s per step"]
    figures += [f"{clock((total - step) * speed)} left"] if total else []
    yield f"{job.title}: {', '.join(figures)}"
    for term in rows[-1].get("loss", {}):
        values = [row["loss"][term] for row in rows if term in row.get("loss", {})]
        count = max(1, round(_LATEST_SHARE * len(values)))
        yield f"  {term:<14}{sparkline(values)}  {sum(values[-count:]) / count:.4f}"
    yield from _validation(rows)
    if rows[-1].get("skipped_steps"):
        yield f"  {rows[-1]['skipped_steps']} steps were skipped, not finite"
    if rows[-1].get("not_learned"):
        yield f"  not learned so far: {rows[-1]['not_learned']}"


def _validation(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The mean Dice of student and teacher on held-out cases, and the latest one of each ROI, worst first."""
    for title, column in (("validation", "validation_dice"), ("its teacher", "teacher_validation_dice")):
        means = [row[f"{column}_mean"] for row in rows if f"{column}_mean" in row]
        if means:
            yield f"  {title:<14}{sparkline(means)}  Dice {means[-1]:.4f}"
    latest = next((row["validation_dice"] for row in reversed(rows) if "validation_dice" in row), {})
    if latest:
        yield "  " + ", ".join(f"{roi} {dice:.2f}" for roi, dice in sorted(latest.items(), key=lambda entry: entry[1]))


def sparkline(values: Sequence[float], width: int = _SPARKLINE_WIDTH) -> str:
    """A bar of eight heights for each of at most `width` means of neighbouring values, from 0 to the largest mean."""
    width = min(width, len(values))
    ends = [len(values) * place // width for place in range(width + 1)]
    means = [sum(values[first:end]) / (end - first) for first, end in pairwise(ends)]
    top = max(means)
    steps = [min(len(_BARS) - 1, int(len(_BARS) * max(mean, 0.0) / top)) if top > 0 else 0 for mean in means]
    return "".join(_BARS[step] for step in steps)


def _counts_steps(reading: Reading | None) -> bool:
    return reading is not None and reading.unit == "step"


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Where the newest run in a working directory stands.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="working directory (default: this one)")
    folder = parser.parse_args(arguments).folder
    try:
        record = newest_run(folder)
        if record is None:
            raise UserError(str(folder.resolve()), "has no run of Snakemake", "name the working directory of the run")
        os.chdir(folder)
        print("\n".join(status(record)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
