"""List the cases of a data set, each with its part of the split, its grids and the voxels of each target.

    python -m pipeline_lib.stages.list_cases.run --settings SETTINGS --volume-folder results/volumes/DATASET \\
        --cases results/volumes/DATASET/cases.csv

A target that the data set does not label has an empty cell: unknown, not zero. `content` names the content of the
case's record, so that the table differs whenever a volume does: Snakemake ignores a newer date of the same content.
"""

from __future__ import annotations

import csv

from ...errors import UserError
from ...files import atomic_write, fingerprint
from ...volumes.names import RECORD
from ...volumes.record import CaseRecord, read_record
from ..command import stage_command
from .settings import Inputs, Outputs, Settings


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    rows = []
    for split, cases in (("train", settings.train), ("test", settings.test)):
        for case in cases:
            path = inputs.volume_folder / case / RECORD
            record = read_record(path)
            if differing := _differing(record, settings):
                raise UserError(
                    str(path),
                    f"has {differing} than the config",
                    "delete its folder and run `snakemake volumes --cores all` with your config",
                )
            rows.append(_row(record, split) | {"content": fingerprint(path)})
    rows.sort(key=lambda row: str(row["case"]))
    with atomic_write(outputs.cases) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _differing(record: CaseRecord, settings: Settings) -> str | None:
    """What the volume was made with that the settings do not say. The stage resample sees to that; this makes sure."""
    if record.targets != settings.targets:
        return "other targets"
    if record.spacing_mm != settings.volumes.spacing_mm:
        return "another spacing"
    return "another window" if record.window_hu != settings.volumes.window_hu else None


def _row(record: CaseRecord, split: str) -> dict[str, str | int | float]:
    """Sizes and spacings in (x, y, z) order, of the volume and of the original image."""
    row: dict[str, str | int | float] = {"dataset": record.dataset, "case": record.case, "split": split}
    for name, grid in (("", record.grid), ("original_", record.original)):
        for axis, size, spacing in zip("xyz", grid.size, grid.spacing_mm, strict=True):
            row[f"{name}size_{axis}"] = size
            row[f"{name}spacing_{axis}_mm"] = round(spacing, 4)
    row["labelled"] = " ".join(record.labelled)
    for target in record.targets:
        row[f"voxels_{target}"] = record.voxels.get(target, "")
    return row


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
