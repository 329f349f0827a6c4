"""What a check found, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Outcome = Literal["ok", "FAILED", "not on this machine"]


class Row(NamedTuple):
    """One thing that was tried: its `outcome`, and the figures or the reason."""

    what: str
    outcome: Outcome
    found: str


def judged(what: str, is_right: bool, found: str) -> Row:
    return Row(what, "ok" if is_right else "FAILED", found)


def absent(what: str, why: str) -> Row:
    return Row(what, "not on this machine", why)


def failed(what: str, error: BaseException) -> Row:
    """The row of a check that ended with an error, which is its first line."""
    said = (str(error).strip().splitlines() or ["no reason given"])[0]
    return Row(what, "FAILED", f"{type(error).__name__}: {said}")


def table(rows: Iterable[Row]) -> str:
    """Markdown."""
    cells = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join(["| check | outcome | found |", "|---|---|---|", *cells])
