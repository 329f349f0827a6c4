"""A stage's progress and remaining time: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import re
import sys
import time
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path

SHOWN_FROM_LOGS = "LACUNA_SHOWN_FROM_LOGS"
"""Environment variable: the terminal, or other file, to which the process that started this one brings its log."""

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_FIRST_LINES = 2.0
_FIRST_SECONDS = 60.0
_log: RawIOBase | None = None
_log_complaint: str | None = None


def log_to(path: Path) -> None:
    """Also write every message from now on to `path`."""
    global _log
    path.parent.mkdir(parents=True, exist_ok=True)
    _log = path.open("ab", buffering=0)


def say(message: str) -> None:
    """Print one line to stderr and to the log; to the log alone where another process shows it on this same stderr."""
    shown = _shown_from_log()
    if not shown:
        print(message, file=sys.stderr, flush=True)
    if not _write_to_log(message) and shown:
        print(message, file=sys.stderr, flush=True)


def file_name_of(descriptor: int) -> str:
    """What names the terminal, pipe or file behind a descriptor in every process of this machine."""
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


def _shown_from_log() -> bool:
    """Whether what is written to the log appears on this very stderr; a job of a cluster has another one."""
    shown_on = os.environ.get(SHOWN_FROM_LOGS)
    return _log is not None and shown_on is not None and shown_on == file_name_of(2)


def _write_to_log(line: str) -> bool:
    """A log that cannot be written (a full disk) must not hide what there is to say, nor end the work."""
    global _log_complaint
    if _log is None:
        return False
    try:
        # Unbuffered, so that lines after one that was lost are written once there is room again.
        _log.write(f"{line}\n".encode())
    except OSError as error:
        if error.strerror != _log_complaint:
            _log_complaint = error.strerror
            print(f"warning: the log cannot be written ({error.strerror})", file=sys.stderr, flush=True)
        return False
    return True


class Progress:
    """Counts `total` units of a stage's work, of which `done` were done before.

    On a terminal, one line is rewritten; elsewhere, and in the log, a plain line appears at most every ten seconds and
    at the end. Where another process shows the log, lines come more often in the first minute.
    """

    def __init__(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.done = self._done_at_start = done
        self._started = time.monotonic()
        self._last_line = self._started
        self._shown = _shown_from_log()
        self._live = sys.stderr.isatty() and not self._shown

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units as done; `note` is printed after the figures."""
        self.done += count
        now = time.monotonic()
        finished = self.done >= self.total
        if self._live:
            end = "\n" if finished else ""
            print(f"\r\x1b[2K{self._line(now, note)}", end=end, file=sys.stderr, flush=True)
        first = self._shown and now - self._started < _FIRST_SECONDS
        pause = _SECONDS_BETWEEN_FIRST_LINES if first else _SECONDS_BETWEEN_LINES
        if finished or now - self._last_line >= pause:
            self._last_line = now
            if self._live:
                _write_to_log(self._line(now, note))
            else:
                say(self._line(now, note))

    def _line(self, now: float, note: str) -> str:
        elapsed = now - self._started
        fresh = self.done - self._done_at_start
        left = elapsed / fresh * (self.total - self.done) if fresh else 0.0
        share = 100 * self.done / max(self.total, 1)
        line = f"{self.stage}  {self.unit} {self.done}/{self.total}  {share:.0f} %  {clock(elapsed)}"
        if self.done < self.total:
            line += f", {clock(left)} left"
        return f"{line}  {note}" if note else line


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@dataclass(frozen=True)
class Reading:
    """A line of progress as `Progress` wrote it; `left` is the remaining time as m:ss, empty at the end."""

    stage: str
    unit: str
    done: int
    total: int
    left: str
    note: str

    @property
    def share(self) -> float:
        return self.done / max(self.total, 1)


_LINE = re.compile(
    r"(?P<stage>.+?)  (?P<unit>\S+) (?P<done>\d+)/(?P<total>\d+)  \d+ %  "
    r"[\d:]+(?:, (?P<left>[\d:]+) left)?(?:  (?P<note>.*))?"
)


def read_progress(line: str) -> Reading | None:
    """The line of progress in a log; None for any other line."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    stage, unit, left, note = (found[name] or "" for name in ("stage", "unit", "left", "note"))
    return Reading(stage, unit, int(found["done"]), int(found["total"]), left, note)
