"""Bring a batch of raw cases into canonical orientation, spacing and window, with their labels.

    python -m pipeline_lib.stages.resample.run --settings SETTINGS --execution EXECUTION \\
        --manifest resources/raw/DATASET/manifest.json --batch results/volumes/DATASET/batch_NUMBER.txt

A case's volume is a folder beside the list of the batch's volumes (volumes/batch_list.py), which is written when all of
them are there. Volumes are not outputs that Snakemake knows of: it would delete those that are done whenever their
batch fails or runs again. Instead each is kept if it is newer than the raw files and was made with the same settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...datasets.readers import case_files
from ...errors import UserError
from ...progress import Progress, say
from ...volumes.batch_list import write_batch_list
from ...volumes.names import RECORD, VOLUME_FILES
from ...volumes.record import read_record
from ..command import stage_command
from .case import resample_case
from .settings import CaseSettings, Execution, Inputs, Outputs, Settings


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Raises UserError of the first case that has a fault; cases after it are made all the same."""
    folder, raw_folder = outputs.batch.parent, inputs.manifest.parent
    todo = [case for case in execution.cases if not _is_made(settings.of_case(case), inputs.manifest, folder / case)]
    stage = f"resample {settings.dataset}"
    if len(todo) < len(execution.cases):
        say(f"{stage}  {len(execution.cases) - len(todo)} of {len(execution.cases)} volumes are already there")
    progress = Progress(stage, len(todo), "cases")
    faults = []
    for case in todo:
        try:
            resample_case(settings.of_case(case), raw_folder, folder / case)
        except UserError as fault:
            faults.append(fault)
        else:
            progress.advance()
    if faults:
        first, *others = faults
        for fault in others:
            say(f"{stage}  another fault: {fault}")
        raise first
    write_batch_list(outputs.batch, execution.cases)


def _is_made(settings: CaseSettings, manifest: Path, volume: Path) -> bool:
    """Whether the case's volume is whole, made with the same settings, and not older than what it was made from."""
    if not all((volume / name).is_file() for name in VOLUME_FILES):
        return False
    try:
        record = read_record(volume / RECORD)
    except UserError:
        return False
    made_at = (volume / RECORD).stat().st_mtime_ns
    return record.made_by == settings.fingerprint and all(
        path.stat().st_mtime_ns <= made_at for path in (manifest, *_raw_files(settings, manifest.parent))
    )


def _raw_files(settings: CaseSettings, raw_folder: Path) -> Iterator[Path]:
    """The case's raw files, those that were deleted left out."""
    root = raw_folder / settings.root
    files = case_files(settings.layout, root, settings.case, settings.targets, settings.labelling)
    masks = (path for parts in files.masks.values() for path in parts)
    yield from (path for path in (files.image, files.label_map, *masks) if path is not None and path.exists())


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
