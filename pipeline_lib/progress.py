"""A stage's progress and remaining time: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from io import RawIOBase
from pathlib import Path

_SECONDS_BETWEEN_LINES = 10.0
_log: RawIOBase | None = None
_log_complaint: str | None = None


def log_to(path: Path) -> None:
    """Also write every message from now on to `path`."""
    global _log
    path.parent.mkdir(parents=True, exist_ok=True)
    _log = path.open("ab", buffering=0)


def say(message: str) -> None:
    """Print one line to stderr and to the log."""
    print(message, file=sys.stderr, flush=True)
    _write_to_log(message)


def _write_to_log(line: str) -> None:
    """A log that cannot be written (a full disk) must not hide what there is to say, nor end the work."""
    global _log_complaint
    if _log is None:
        return
    try:
        # Unbuffered, so that lines after one that was lost are written once there is room again.
        _log.write(f"{line}\n".encode())
    except OSError as error:
        if error.strerror != _log_complaint:
            _log_complaint = error.strerror
            print(f"warning: the log cannot be written ({error.strerror})", file=sys.stderr, flush=True)


class Progress:
    """Counts `total` units of a stage's work, of which `done` were done before.

    On a terminal, one line is rewritten; elsewhere, and in the log, a plain line appears at most every ten seconds and
    at the end.
    """

    def __init__(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.done = self._done_at_start = done
        self._started = time.monotonic()
        self._last_line = self._started
        self._live = sys.stderr.isatty()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units as done; `note` is printed after the figures."""
        self.done += count
        now = time.monotonic()
        finished = self.done >= self.total
        if self._live:
            end = "\n" if finished else ""
            print(f"\r\x1b[2K{self._line(now, note)}", end=end, file=sys.stderr, flush=True)
        if finished or now - self._last_line >= _SECONDS_BETWEEN_LINES:
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
