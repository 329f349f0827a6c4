"""What a run prints: a header, a line per running and per finished stage, failures in full, the table.

A log handler after Snakemake's interface for logger plugins. The Snakefile puts it in the place of Snakemake's own,
because plugins are found by name among installed packages: not in a checkout that was installed to be edited, and not
that of the checkout whose Snakefile is called. Whoever asks Snakemake for more (`--verbose`, `--printshellcmds`,
`--quiet`, `--logger`, a dry run) gets what Snakemake prints. Its log in .snakemake/log/ holds everything in any case.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snakemake.logging import LoggerManager
from snakemake.settings.enums import Quietness
from snakemake.settings.types import OutputSettings
from snakemake_interface_executor_plugins.settings import ExecMode
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from ..machine import visible_gpus
from ..progress import SHOWN_FROM_LOGS, clock, file_name_of
from .job_log import JobLog
from .run_view import RunView
from .screen import Screen

if TYPE_CHECKING:
    # It imports itself in a circle, unless snakemake.api comes first.
    from snakemake.workflow import Workflow

_REPLACED = "DefaultStreamHandler"
_SECONDS_BETWEEN_LOOKS = 1.0
_NOISE = (
    "Assuming unrestricted",
    "Building DAG",
    "Conda environments",
    "Group jobs",
    "Singularity",
    "Using shell",
    "Exiting because a job execution failed",
)
_UP_TO_DATE = "Nothing to be done"
_RETRY = re.compile(r"Trying to restart job (\d+)\.")
_TOLD_OTHERWISE = ("At least one job did not complete successfully.", "CalledProcessError in file")
"""Errors of Snakemake that a failed job's own error stands for."""


def take_over(workflow: Workflow) -> None:
    """Print this in place of what Snakemake prints, unless the user asked for that."""
    manager = workflow.logger_manager
    if workflow.exec_mode != ExecMode.DEFAULT or _wants_snakemake(manager.settings):
        return
    replaced = [handler for handler in manager.logger.handlers if handler.name == _REPLACED]
    for handler in replaced:
        manager.logger.removeHandler(handler)
        manager.logger.addHandler(TerminalHandler(manager, workflow))
        os.environ[SHOWN_FROM_LOGS] = file_name_of(2)


def is_in_charge(manager: LoggerManager) -> bool:
    """Whether this prints, failures included."""
    return any(isinstance(handler, TerminalHandler) for handler in manager.logger.handlers)


def _wants_snakemake(settings: OutputSettings) -> bool:
    quiet = set(settings.quiet or ()) - {Quietness.HOST}
    return bool(settings.verbose or settings.printshellcmds or settings.debug_dag or settings.dryrun or quiet)


class TerminalHandler(LogHandlerBase):
    """Turns Snakemake's events into lines, and looks into the logs of running jobs every second."""

    def __init__(self, manager: LoggerManager, workflow: Workflow) -> None:
        self.manager, self.workflow = manager, workflow
        self.screen = Screen(sys.stderr, coloured=not manager.settings.nocolor)
        self.view: RunView | None = None
        self._where = ""
        self._latest: list[str] = []
        """The line that was printed last."""
        self._ended = threading.Event()
        super().__init__(manager.settings, None)

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print what a record means for people; called under the handler's lock."""
        try:
            self._show(self._lines_of(record))
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """The end of the run: what came of it, and the table or the failures, last of all."""
        if not self._ended.is_set() and self.view is not None:
            with self.lock:
                self._ended.set()
                self._show(self._end(self.view), live=False)
        super().close()

    def _lines_of(self, record: logging.LogRecord) -> list[str]:
        event = getattr(record, "event", None)
        if event == LogEvent.RESOURCES_INFO:
            self._where = self._where or _where(record)
        elif event == LogEvent.RUN_INFO:
            return self._begin(record.stats)
        elif event is None or event == LogEvent.ERROR:
            return self._message(record)
        return self._of_job(event, record, self.view) if self.view is not None else []

    def _of_job(self, event: LogEvent, record: logging.LogRecord, view: RunView) -> list[str]:
        if event == LogEvent.JOB_INFO and record.log:
            view.start(record.jobid, record.rule_name, dict(record.wildcards), str(record.log[0]))
        elif event == LogEvent.JOB_FINISHED:
            return view.finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            return view.fail([record.jobid], list(map(str, record.log[1:])), record.rule_msg or "")
        elif event == LogEvent.GROUP_ERROR:
            # Its jobs have an event each, too, but only one or two of them say anything.
            return view.fail([job["jobid"] for job in record.job_error_info], list(map(str, record.aux_logs)))
        return []

    def _message(self, record: logging.LogRecord) -> list[str]:
        """A plain message: all before jobs run, later only warnings and errors."""
        text = record.getMessage().strip()
        again = _RETRY.fullmatch(text)
        if self.view is not None and again:
            return self.view.retry(int(again[1]))
        told = record.levelno < logging.WARNING or any(words in text for words in _TOLD_OTHERWISE)
        hidden = self.view is not None and told
        if hidden or text.startswith(_NOISE):
            return []
        return [*text.splitlines(), *(self._table() if text.startswith(_UP_TO_DATE) else [])]

    def _table(self) -> list[str]:
        """The table of a report that is up to date, if it is among what was asked for."""
        jobs = [job for job in self.workflow.dag.jobs if job.rule.name == "write_report"]
        return [line for job in jobs for line in JobLog(Path(str(job.log[0])), has_begun=True).news()]

    def _begin(self, stats: dict[str, Any]) -> list[str]:
        """The header: how much of what will run, on what, and where to look."""
        logged = {rule.name for rule in self.workflow.rules if rule.log}
        totals = {rule: count for rule, count in stats.items() if rule in logged}
        self.view = RunView(totals)
        threading.Thread(target=self._watch, args=(self.view,), daemon=True).start()
        jobs = sum(totals.values())
        logs = ["logs/", *map(_relative, self.manager.get_logfile())]
        return [
            f"{', '.join(map(_relative, self.workflow.configfiles))}: {jobs} job{'s' * (jobs != 1)} {self._where}",
            ", ".join(f"{rule} {count}" if count > 1 else rule for rule, count in totals.items()),
            *(["report: results/report/index.html"] if "write_report" in totals else []),
            f"logs: {', '.join(logs)}",
        ]

    def _end(self, view: RunView) -> list[str]:
        count, elapsed = sum(view.totals.values()), clock(view.elapsed)
        if view.failures or view.done < count:
            failures = list(view.failures.values())
            if failures == self._latest:
                failures = []
            failed = f", {len(view.failures)} failed" if view.failures else ""
            return [f"stopped after {elapsed}: {view.done} of {count} jobs are done{failed}", *failures]
        return [f"finished {count} job{'s' * (count != 1)} in {elapsed}", *view.last]

    def _watch(self, view: RunView) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            with self.lock:
                if not self._ended.is_set():
                    said = view.poll()
                    self._show(said if self.screen.is_terminal else [*said, *view.plain()])

    def _show(self, lines: list[str], live: bool = True) -> None:
        self._latest = lines[-1:] or self._latest
        self.screen.show(lines, self.view.running() if self.view is not None and live else ())


def _relative(path: str | Path) -> str:
    """The path from the working directory, if it lies there."""
    path = Path(path)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _where(record: logging.LogRecord) -> str:
    """What the jobs run on, from Snakemake's words on resources: cores of this machine, or a cluster."""
    if hasattr(record, "nodes"):
        return "on a cluster"
    if not hasattr(record, "cores"):
        return ""
    gpus = visible_gpus()
    return f"on {record.cores} core{'s' * (record.cores != 1)}, {gpus or 'no'} GPU{'s' * (gpus > 1)}"
