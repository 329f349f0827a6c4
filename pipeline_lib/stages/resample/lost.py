"""Batches whose volumes are gone or old though their list is there: of a batch, Snakemake looks at the list alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...volumes.batch_list import listed_cases
from ...volumes.names import VOLUME_FILES


def why_incomplete(batch: Path, cases: Sequence[str], manifest: Path) -> str | None:
    """Why the batch that `batch` lists must run, in words; None if each of its cases has a volume.

    A volume counts only if the batch's own list names it: another list may be of older settings. Nor does a list count
    that is older than the raw data set's manifest: a run may have stopped between the two.
    """
    if not batch.is_file():
        return "it has no list"
    if missing := set(cases).difference(listed_cases(batch)):
        return f"its list lacks {min(missing)}"
    if manifest.is_file() and batch.stat().st_mtime_ns < manifest.stat().st_mtime_ns:
        return f"{manifest} is newer"
    lost = next((case for case in cases if not _is_whole(f"{batch.parent}/{case}")), None)
    return lost and f"{batch.parent / lost} lacks a file"


def _is_whole(folder: str) -> bool:
    return all(os.path.exists(f"{folder}/{name}") for name in VOLUME_FILES)  # noqa: PTH110  a path of each takes ten times as long
