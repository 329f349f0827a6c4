"""When two data sets have one source."""

from __future__ import annotations

import os
from pathlib import Path

from .datasets import Dataset, DownloadSource, LocalSource, PhantomSource


def without_sizes(source: DownloadSource) -> DownloadSource:
    """The source without `about_gb`, which only the check of the disk reads."""
    files, per_case = (
        tuple(file.model_copy(update={"about_gb": None}) for file in part) for part in (source.files, source.per_case)
    )
    return source.model_copy(update={"files": files, "per_case": per_case})


def same_for_one_source(dataset: Dataset) -> PhantomSource | DownloadSource | LocalSource:
    """The source of a data set, equal for data sets of one source however sizes and local paths are written."""
    source = dataset.source
    if isinstance(source, DownloadSource):
        return without_sizes(source)
    if isinstance(source, LocalSource):
        return source.model_copy(update={"path": os.path.normpath(Path(source.path).absolute())})
    return source
