"""The list of a batch's volumes, batch_NUMBER.txt beside them: what Snakemake knows of them.

A line is `CASE FINGERPRINT`, the second naming the content of the case's record (case.json). The record names the
voxels and the settings, so the list differs whenever a volume does: Snakemake ignores a newer date of the same content.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import atomic_write, fingerprint
from .names import RECORD


def write_batch_list(path: Path, cases: Sequence[str]) -> None:
    """List `cases`, whose volumes are folders beside `path`."""
    lines = (f"{case} {fingerprint(path.parent / case / RECORD)}\n" for case in cases)
    with atomic_write(path) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def listed_cases(path: Path) -> tuple[str, ...]:
    """The cases that a list names; none where it is missing."""
    if not path.is_file():
        return ()
    return tuple(line.split(" ")[0] for line in path.read_text(encoding="utf-8").splitlines())
