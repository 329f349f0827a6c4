"""Bring a data set into its raw folder: make a phantom, download what is published, or link what the user has.

    python -m pipeline_lib.stages.acquire.run --settings SETTINGS --execution EXECUTION \\
        --manifest resources/raw/DATASET/manifest.json [--truth resources/truth/DATASET]

The manifest is written last: a data set that has one is there, as far as it is published or the user has it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ...config.datasets import Dataset, DownloadSource, LocalSource, PhantomSource
from ...config.layouts import published
from ...datasets import deletion
from ...datasets.conversion import convert_dataset
from ...datasets.manifest import write_manifest
from ...datasets.published import STATE, download_dataset, take_local
from ...datasets.readers import better_layout, case_files_of_all_labels
from ...errors import UserError
from ...progress import say
from ..command import stage_command
from .settings import Execution, Inputs, Outputs, Settings


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    dataset, raw = settings.dataset.model_copy(update={"skip": execution.skip}), outputs.manifest.parent
    source, linked = dataset.source, False
    raw.mkdir(parents=True, exist_ok=True)
    (raw / deletion.NAME).unlink(missing_ok=True)
    if isinstance(source, PhantomSource):
        _make_phantom(settings, outputs)
    elif published(dataset.layout).patients is not None:
        convert_dataset(dataset, raw, execution.keep_archives, execution.sharing)
    elif isinstance(source, DownloadSource):
        download_dataset(dataset, source, raw, execution.keep_archives)
    else:
        linked = take_local(dataset, source, raw)
    _check_cases(dataset, raw)
    write_manifest(outputs.manifest, dataset.name, source.model_dump(mode="json"), linked)


def _make_phantom(settings: Settings, outputs: Outputs) -> None:
    """Generate a phantom from the start: a half-made one is cheaper to make again than to check."""
    from ...datasets.phantom.generate import (  # only phantoms need the generator's libraries
        PhantomDataset,
        generate_dataset,
    )

    raw, truth = outputs.manifest.parent, outputs.truth
    if truth is None:
        raise UserError("--truth", "is missing", f"name the folder of the truth of phantom {settings.dataset.name}")
    if (raw / STATE).exists():
        raise UserError(str(raw), "holds downloaded files", "give the phantom another name, or remove that folder")
    for folder in (raw, truth):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    phantom = PhantomDataset(dataset=settings.dataset, phantom=settings.phantom, rois=settings.rois, seed=settings.seed)
    generate_dataset(phantom, raw, truth)


def _check_cases(dataset: Dataset, raw: Path) -> None:
    """Look whether every case is where the layout puts it, so that a wrong `root` shows before the first volume.

    Single files that a user's own data set lacks are for `validate` to list, with all that is wrong with the others.
    """
    root = raw / dataset.root
    wanted = [path for case in dataset.used_cases for path in _files(dataset, root, case)]
    missing = [path for path in wanted if not path.exists()]
    if not missing:
        return
    if isinstance(dataset.source, LocalSource) and len(missing) < len(wanted):
        say(f"{dataset.name}: {len(missing)} of {len(wanted)} files are missing; `snakemake validate` lists them")
        return
    found = ", ".join(sorted(entry.name for entry in raw.iterdir() if not entry.name.startswith("."))[:8])
    elsewhere = better_layout(dataset.layout, root, dataset.used_cases[0])
    raise UserError(
        str(missing[0]),
        f"is missing, and {len(missing) - 1} more files of {len(dataset.used_cases)} cases ({raw} holds {found})",
        elsewhere or f"correct `root` or `cases` of data set {dataset.name}, or list absent cases under `skip`",
    )


def _files(dataset: Dataset, root: Path, case: str) -> list[Path]:
    files = case_files_of_all_labels(dataset, root, case, ())
    return [files.image] if files.label_map is None else [files.image, files.label_map]


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
