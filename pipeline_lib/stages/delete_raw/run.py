"""Delete the raw cases of a data set whose volumes are all made; the labels that scores need stay.

    python -m pipeline_lib.stages.delete_raw.run --settings SETTINGS --manifest resources/raw/DATASET/manifest.json \\
        --cases results/volumes/DATASET/cases.csv --deleted resources/raw/DATASET/deleted.json

A job of its own, after those that made the volumes: Snakemake deletes the outputs of a job that fails, so a job that
deleted its own input could lose both.
"""

from __future__ import annotations

from pathlib import Path

from ...config.datasets import Dataset
from ...datasets.deletion import delete_images
from ...datasets.readers import case_files
from ...errors import UserError
from ...files import read_json, write_json
from ...progress import say
from ...volumes.store import open_volume
from ..command import stage_command
from .settings import Inputs, Outputs, Settings


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """Raises UserError if a volume lacks a file or if labels that scores need are gone; nothing is deleted then."""
    dataset = settings.dataset
    for case in dataset.used_cases:
        open_volume(inputs.cases.parent / case)
    root = inputs.manifest.parent / dataset.root
    labels = [path for case in settings.scored_cases for path in _labels(dataset, root, case)]
    gone = [path for path in labels if not path.is_file()]
    if gone and not read_json(inputs.manifest)["linked"]:
        raise UserError(
            str(gone[0]),
            "was deleted before the scores needed it, as they do of every case with `folds`",
            f"bring the raw cases back with `--forcerun {inputs.manifest}`",
        )
    deleted = delete_images(inputs.manifest, labels)
    if deleted["linked"]:
        say(f"{dataset.name}: the folder is the user's own and stays as it is")
    else:
        say(f"{dataset.name}: {deleted['files']} raw files deleted, {deleted['bytes'] / 1e9:.1f} GB freed")
    write_json(outputs.deleted, deleted)


def _labels(dataset: Dataset, root: Path, case: str) -> list[Path]:
    files = case_files(dataset.layout, root, case, tuple(dataset.labels), dataset.labelling(case))
    masks = [path for parts in files.masks.values() for path in parts]
    return masks if files.label_map is None else [files.label_map]


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
