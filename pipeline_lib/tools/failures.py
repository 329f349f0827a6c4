"""The error lines of failed jobs, found through Snakemake's log, to be printed last."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_LOG = re.compile(r"^ +log: (.+?) \(check log file\(s\) for error details\)$", re.MULTILINE)
_ERROR = "error: "


def failures(snakemake_logs: Iterable[Path]) -> Iterator[str]:
    """One line for each failed job: what its log says, and the log's path, relative to the working directory.

    A bug leaves a traceback instead of a line for users; its last line is taken.
    """
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in snakemake_logs)
    for name in dict.fromkeys(_LOG.findall(text)):
        yield f"{_reason(Path(name))} [{name}]"


def _reason(log: Path) -> str:
    if not log.is_file():
        return "error: the job ended without a message"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(_ERROR)]
    if errors:
        return errors[-1]
    return f"error: {lines[-1].strip()}" if lines else "error: the job ended without a message"
