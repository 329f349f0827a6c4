"""Bring a data set into its raw folder: make a phantom, download what is published, or link what the user has.

    python -m pipeline_lib.stages.acquire --settings SETTINGS \\
        --manifest resources/raw/DATASET/manifest.json [--truth resources/truth/DATASET]

The manifest is written last: a data set that has one is whole.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ..config.datasets import PhantomSource
from ..config.settings import AcquireSettings
from ..datasets.manifest import write_manifest
from ..errors import UserError
from .command import stage_command


@dataclass(frozen=True)
class Inputs:
    """None: everything comes from the settings."""


@dataclass(frozen=True)
class Outputs:
    """`manifest` lies at the top of the raw folder; `truth` is the folder of a phantom's complete labels."""

    manifest: Path
    truth: Path | None


def run(settings: AcquireSettings, inputs: Inputs, outputs: Outputs) -> None:
    dataset = settings.dataset
    if not isinstance(dataset.source, PhantomSource):
        raise UserError(f"data set {dataset.name}", "its source cannot be acquired yet", "use a phantom data set")
    _make_phantom(settings, outputs)
    write_manifest(outputs.manifest, dataset.name, dataset.source.model_dump(mode="json"), linked=False)


def _make_phantom(settings: AcquireSettings, outputs: Outputs) -> None:
    """Generate a phantom from the start: a half-made one is cheaper to make anew than to check."""
    from ..datasets.phantom.generate import generate_dataset  # only phantoms need the generator's libraries

    if outputs.truth is None:
        raise UserError("--truth", "is missing", f"name the folder of the truth of phantom {settings.dataset.name}")
    for folder in (outputs.manifest.parent, outputs.truth):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    generate_dataset(settings, outputs.manifest.parent, outputs.truth)


if __name__ == "__main__":
    stage_command(run, AcquireSettings, Inputs, Outputs)
