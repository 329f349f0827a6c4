"""What stage acquire depends on, reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...config.datasets import Dataset, DownloadSource, SkippedCase, archive_identity
from ...config.layouts import published
from ...config.openkbp import patients_digest
from ...config.phantom import Phantom
from ...config.schema import Config
from ...config.section import Section
from ..slices import regardless_of

VERSION = 1
"""Of generated phantoms; what is published does not change with this code."""


class Settings(Section):
    """Where a data set comes from; for a phantom also what it looks like.

    `patients` names what the project's table says of the cases, where the layout has one.
    """

    dataset: Dataset
    phantom: Phantom | None
    rois: tuple[str, ...]
    seed: int | None
    patients: str = ""


class Execution(Section):
    """Cases that are not fetched, and whether archives stay. Kept apart: editing it must not remake every volume.

    `sharing` are the other data sets that read the same archive.
    """

    skip: tuple[SkippedCase, ...] = ()
    keep_archives: bool = True
    sharing: tuple[Dataset, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """None: everything comes from the settings."""


@dataclass(frozen=True)
class Outputs:
    """`manifest` lies at the top of the raw folder; `truth` is the folder of a phantom's complete labels."""

    manifest: Path
    truth: Path | None


def settings_from(config: Config, dataset: str) -> Settings:
    """The source of one data set; a phantom's look, ROIs and seed."""
    chosen = config.dataset(dataset)
    phantom = chosen.source.kind == "phantom"
    table = published(chosen.layout).patients
    return Settings(
        # What is fetched does not depend on these, and fetching again would remake every volume.
        dataset=regardless_of(chosen, "split", "skip", "doubted", "licence", "labelled", "unknown_labels", "patients"),
        phantom=config.phantom if phantom else None,
        rois=config.roi_names if phantom else (),
        seed=config.seed if phantom else None,
        patients="" if table is None else patients_digest(table(), chosen.all_cases),
    )


def execution_from(config: Config, dataset: str) -> Execution:
    """The skipped cases of one data set, the storage of archives, and who else reads its archive."""
    chosen = config.dataset(dataset)
    archive = _shared_archive(chosen)
    sharing = [
        other
        for other in config.all_datasets
        if archive is not None and other is not chosen and _shared_archive(other) == archive
    ]
    return Execution(skip=chosen.skip, keep_archives=config.storage.keep_archives, sharing=tuple(sharing))


def _shared_archive(dataset: Dataset) -> tuple[str, str, str] | None:
    """The identity of the downloaded archive that other data sets may read too; None: there is none."""
    if published(dataset.layout).patients is None or not isinstance(dataset.source, DownloadSource):
        return None
    return archive_identity(dataset.source.files[0])
