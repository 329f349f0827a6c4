"""Volumes that are not there though their batch was made: Snakemake looks at the lists of their names alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...config.schema import Config
from ...volumes.names import VOLUME_FILES
from .settings import batches_of


def forget_lost_volumes(config: Config, volumes: Path) -> Iterator[Path]:
    """Delete the lists of batches of which a case has no volume, so that they are made; yield the folders of volumes
    that lost a file.

    `volumes` is the folder that has one for each data set. A case has a volume if a list names it and its files are
    there: a volume that is there without being named may be of older settings. With a batch's list that of all cases
    goes too, for Snakemake does not look for what a file was made from while the file itself is there.
    """
    for dataset in config.all_datasets:
        folder = volumes / dataset.name
        batches = batches_of(dataset)
        lists = {batch: folder / f"batch_{batch}.txt" for batch in batches}
        named = {batch: path.read_text(encoding="utf-8").split("\n") for batch, path in lists.items() if path.is_file()}
        made = {case for cases in named.values() for case in cases}
        whole = {case for case in made if case and _is_whole(f"{folder}/{case}")}
        incomplete = [batch for batch in named if not whole.issuperset(batches[batch])]
        for batch in incomplete:
            lists[batch].unlink()
            yield from (folder / case for case in batches[batch] if case in made - whole)
        if incomplete:
            (folder / "cases.csv").unlink(missing_ok=True)


def _is_whole(folder: str) -> bool:
    return all(os.path.exists(f"{folder}/{name}") for name in VOLUME_FILES)  # noqa: PTH110  a path of each takes ten times as long
