"""The log of a job while it is written: what it says, how far it is, why it failed."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from ..progress import Reading, read_progress

_FAILURES = ("error: ", "Traceback (most recent call last)")


class JobLog:
    """Reads a log in steps.

    What lies at `path` when this is made is of an earlier job, which wrote the same file, unless the job `has_begun`.
    """

    def __init__(self, path: Path, has_begun: bool = False) -> None:
        self.path = path
        self.reading: Reading | None = None
        self.failure: list[str] = []
        """The lines from the first that tells of a failure on."""
        self.begun = False
        self.last_said = ""
        self._before = None if has_begun else _written_at(path)
        self._position = 0
        self._rest = b""

    def news(self) -> list[str]:
        """What was said since the last call, without progress and failures; nothing while there is no log."""
        try:
            return [line for line in self._new_lines() if self._is_said(line)]
        except OSError:
            # Not there yet, deleted by Snakemake for a new attempt, or on a file system that hangs: another time.
            return []

    def _new_lines(self) -> list[str]:
        written = _written_at(self.path)
        if written is None or written == self._before:
            return []
        self._before, self.begun = None, True
        with self.path.open("rb") as file:
            file.seek(self._position)
            content = file.read()
        self._position += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        return [line.decode("utf-8", "replace").rstrip() for line in lines]

    def _is_said(self, line: str) -> bool:
        if self.failure or line.startswith(_FAILURES):
            self.failure.append(line)
            return False
        reading = read_progress(line)
        if reading is not None:
            self.reading = reading
            return False
        self.last_said = line or self.last_said
        return bool(line)


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a file that are not empty; none if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return list(deque((line.rstrip() for line in file if line.strip()), maxlen=count))
    except OSError:
        return []


def _written_at(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
