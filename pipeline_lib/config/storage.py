"""How much of the raw data stays on the disk."""

from __future__ import annotations

from pydantic import Field

from .section import Section


class Storage(Section):
    """What is kept of data sets that were downloaded or unpacked; editing it reruns nothing that is made."""

    keep_archives: bool = Field(
        default=True, description="False deletes each downloaded archive as soon as it is unpacked."
    )
    keep_raw_cases: bool = Field(
        default=True,
        description="False deletes the raw images and labels of a data set once all its volumes are made; the labels "
        "of test cases stay, for the scores (with `folds` those of training cases too), and so does a folder of the "
        "user's own (`kind: local`).",
    )
