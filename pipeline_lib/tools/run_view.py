"""What a run looks like on a terminal: which lines are printed for good, and which show what is running now.

A stage has one line, however many jobs it has; each training has its own, because it may take days.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..progress import clock
from ..training.stopping import STOPPED_AS_REQUESTED
from .job_log import JobLog, last_lines

_LINE_PER_JOB = "train"
_SHOWN_LAST = "write_report"
_SHOWN_WHOLE = "validate"
_MOST_SAID = 5
"""Different notes of a stage that are printed, unless they are what it is for; warnings always are."""
_WARNING = "warning: "
_LINES_WITHOUT_LOG = 10
_PLAIN_SHARE = 1 / 3
_PLAIN_SECONDS, _PLAIN_MOST_SECONDS = 20.0, 3600.0
"""Without a terminal a line comes after a third more of a stage, but not sooner than the one and not later than the
other after the line before."""


@dataclass
class Job:
    """A job that Snakemake has started or handed to a cluster."""

    rule: str
    title: str
    log: JobLog
    started: float

    @property
    def share(self) -> float:
        return self.log.reading.share if self.log.reading else 0.0


@dataclass
class Row:
    """One line: a stage with all of its jobs, or a single training."""

    title: str
    rule: str
    total: int
    started: float
    told_at: float
    done: int = 0
    failed: int = 0
    running: dict[int, Job] = field(default_factory=dict)
    detail: str = ""
    said: set[str] = field(default_factory=set)
    notes: int = 0
    """How many of `said` are notes, not warnings."""
    told_share: float = 0.0

    def share(self) -> float:
        return (self.done + sum(job.share for job in self.running.values())) / self.total


class RunView:
    """Follows the jobs of a run; `totals` are the numbers of jobs by rule. Methods return the lines to print.

    `now` is the present in seconds; a run that `is_told` afterwards has had its jobs' logs written already.
    """

    def __init__(
        self, totals: Mapping[str, int], now: Callable[[], float] = time.monotonic, is_told: bool = False
    ) -> None:
        self.totals, self._now, self._is_told = dict(totals), now, is_told
        self.begun = now()
        self.rows: dict[str, Row] = {}
        self.done = 0
        self.failures: dict[int, str] = {}
        """The line that says why a job failed and where its log is, for each that was not tried again."""
        self.last: list[str] = []
        """What is to stand at the very end: the table."""
        self._row_of: dict[int, Row] = {}

    @property
    def elapsed(self) -> float:
        return self._now() - self.begun

    def start(self, jobid: int, rule: str, wildcards: Mapping[str, str], log: str) -> None:
        """A job begins, or is handed to a cluster, for the first time or again."""
        now, name = self._now(), " ".join((rule, *wildcards.values()))
        title, total = (name, 1) if rule == _LINE_PER_JOB else (rule, self.totals.get(rule, 1))
        row = self.rows.setdefault(title, Row(title, rule, total, started=now, told_at=now))
        if jobid in self._row_of:
            # What failed and is tried again is not the run's failure.
            row.failed -= 1
            self.failures.pop(jobid, None)
        row.running[jobid] = Job(rule, name, JobLog(Path(log), has_begun=self._is_told), now)
        self._row_of[jobid] = row

    def poll(self) -> list[str]:
        """What running jobs have said meanwhile."""
        return [line for row in self.rows.values() for job in row.running.values() for line in self._news(row, job)]

    def finish(self, jobid: int) -> list[str]:
        """A job is done; its row too, if it was the last."""
        row = self._row_of.get(jobid)
        job = row.running.get(jobid) if row else None
        if row is None or job is None:
            return []
        lines = list(self._news(row, job))
        del row.running[jobid]
        row.done += 1
        self.done += 1
        if row.done < row.total:
            return lines
        jobs = f"{row.total} jobs  " if row.total > 1 else ""
        return [
            *lines,
            *_unsaid(row),
            _line("done", row.title, f"{jobs}{clock(self._now() - row.started)}", row.detail),
        ]

    def fail(self, jobids: Sequence[int], logs: Sequence[str] = (), message: str = "") -> list[str]:
        """A job failed: why, in full, and where its log is. Of several that a cluster ran as one, those that say why.

        `logs` are those of a cluster, for jobs that died before they could say anything.
        """
        running = {jobid: row for jobid in jobids if (row := self._row_of.get(jobid)) and jobid in row.running}
        jobs = {jobid: row.running[jobid] for jobid, row in running.items()}
        lines = [line for jobid, row in running.items() for line in self._news(row, jobs[jobid])]
        told = [jobid for jobid, job in jobs.items() if job.log.failure] or list(jobs)[:1]
        for jobid, row in running.items():
            del row.running[jobid]
            row.failed += 1
        for jobid in told:
            job = jobs[jobid]
            after = f"after {clock(self._now() - job.started)}"
            if not job.log.failure and STOPPED_AS_REQUESTED in job.log.last_said:
                lines.append(_line("stopped", job.title, after))
                continue
            *before, why = _reason(job, logs) or [message or "the job ended without a message"]
            why = why if why.startswith("error: ") else f"error: {why.strip()}"
            self.failures[jobid] = f"{why} [{job.log.path}]"
            lines += [_line("failed", job.title, after), *before, self.failures[jobid]]
        return lines

    def retry(self, jobid: int) -> list[str]:
        """A job that failed will be tried again."""
        row = self._row_of.get(jobid)
        return [_line("again", row.title, "is tried again")] if row else []

    def queued(self) -> dict[str, int]:
        """How many jobs of each rule have not begun."""
        begun: dict[str, int] = {}
        for row in self.rows.values():
            begun[row.rule] = begun.get(row.rule, 0) + row.done + row.failed + len(row.running)
        left = {rule: total - begun.get(rule, 0) for rule, total in self.totals.items()}
        return {rule: count for rule, count in left.items() if count > 0}

    def running(self) -> list[str]:
        """A line for each row of which something is running, oldest first."""
        return [self._running_line(row) for row in self.rows.values() if row.running]

    def plain(self) -> list[str]:
        """The lines of `running` that are worth printing for good: a third more is done, or it is an hour later."""
        return [self._running_line(row) for row in self.rows.values() if row.running and self._is_due(row)]

    def _is_due(self, row: Row) -> bool:
        since, share = self._now() - row.told_at, row.share()
        grown = share < 1 and share - row.told_share >= _PLAIN_SHARE
        due = since >= _PLAIN_MOST_SECONDS or (since >= _PLAIN_SECONDS and grown)
        if due:
            row.told_at, row.told_share = self._now(), share
        return due

    def _running_line(self, row: Row) -> str:
        jobs = list(row.running.values())
        if row.total > 1:
            figures = f"{row.done}/{row.total} jobs, {len(jobs)} running"
            return _line("running", row.title, figures, _times(row, self._now()))
        log = jobs[0].log
        if log.reading is None:
            waited = clock(self._now() - jobs[0].started)
            return _line("running" if log.begun else "waiting", row.title, waited, row.detail)
        reading = log.reading
        left = f", {reading.left} left" if reading.left else ""
        figures = f"{reading.unit} {reading.done}/{reading.total}  {100 * reading.share:.0f} %{left}"
        stage = reading.stage if reading.stage.startswith(row.title) else row.title
        return _line("running", stage, figures, reading.note)

    def _news(self, row: Row, job: Job) -> Iterator[str]:
        """What a job says that others of its stage have not said before."""
        for line in job.log.news():
            if job.rule == _SHOWN_LAST:
                self.last.append(line)
            elif line not in row.said:
                row.said.add(line)
                row.detail = line.removeprefix(f"{row.title}: ")
                is_warning = line.startswith(_WARNING)
                row.notes += not is_warning
                if job.rule == _SHOWN_WHOLE or is_warning or row.notes <= _MOST_SAID:
                    yield line
        if job.log.reading is not None:
            # A training ends with its loss; what another stage did last says nothing.
            row.detail = job.log.reading.note if job.log.reading.unit == "step" else ""


def _reason(job: Job, logs: Sequence[str]) -> list[str]:
    """What the job's log says of its failure, or else a cluster's log, or else the last that the job said."""
    if job.log.failure:
        return [line for line in job.log.failure if line]
    last = (last_lines(Path(log), _LINES_WITHOUT_LOG) for log in reversed(logs))
    return next(filter(None, last), [job.log.last_said] if job.log.last_said else [])


def _times(row: Row, now: float) -> str:
    elapsed, share = now - row.started, row.share()
    return f"{clock(elapsed)}, {clock(elapsed / share * (1 - share))} left" if share else clock(elapsed)


def _unsaid(row: Row) -> list[str]:
    more = row.notes - _MOST_SAID
    if row.rule == _SHOWN_WHOLE or more <= 0:
        return []
    return [f"{row.title}: and {more} more such line{'s' * (more > 1)}, in logs/"]


def _line(state: str, title: str, *details: str) -> str:
    return "  ".join((f"{state:<7}", f"{title:<26}", *filter(None, details))).rstrip()
