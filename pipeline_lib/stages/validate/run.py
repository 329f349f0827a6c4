"""Read every raw case of every data set and list all that is wrong with them, one line per file.

    python -m pipeline_lib.stages.validate.run --settings SETTINGS \\
        --manifests resources/raw/A/manifest.json resources/raw/B/manifest.json … --cases results/validation.csv

No rule of the pipeline needs it: it is for a user who wants to know before a GPU hour is spent. It reads as many cases
at a time as OMP_NUM_THREADS says, which Snakemake sets to the job's threads.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from ...config.stage_settings import ValidateSettings
from ...datasets.deletion import is_deleted
from ...datasets.validation import CheckedCase, check_case, repeated_cases
from ...errors import UserError
from ...files import atomic_write
from ...progress import Progress, say
from ..command import stage_command


@dataclass(frozen=True)
class Inputs:
    """The manifest of each data set, in the order of the settings; the raw folders are those they lie in."""

    manifests: tuple[Path, ...]


@dataclass(frozen=True)
class Outputs:
    """One row per case that was read; written only if nothing is wrong."""

    cases: Path


def run(settings: ValidateSettings, inputs: Inputs, outputs: Outputs) -> None:
    checked = _check(settings, inputs)
    findings = [*(finding for case in checked for finding in case.findings), *repeated_cases(checked)]
    for finding in findings:
        say(str(finding))
    if findings:
        raise UserError(
            f"{len(checked)} raw cases",
            f"{len(findings)} fault{'s' * (len(findings) > 1)}, listed above",
            "mend them, or name their cases under the data set's `skip:` with the reason",
        )
    with atomic_write(outputs.cases) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("dataset", "case", "split", "image", "digest"))
        writer.writerows((case.dataset, case.case, case.split, case.image, case.digest) for case in checked)


def _check(settings: ValidateSettings, inputs: Inputs) -> list[CheckedCase]:
    """Every case, in the order of the data sets and names, whatever the order in which they are read."""
    for dataset, manifest in zip(settings.datasets, inputs.manifests, strict=True):
        if is_deleted(manifest.parent):
            say(f"{dataset.name}: its raw cases were deleted once their volumes were made, so they are not read")
    jobs = [
        (dataset, manifest.parent, case, targets)
        for dataset, targets, manifest in zip(settings.datasets, settings.targets, inputs.manifests, strict=True)
        for case in dataset.used_cases
        if not is_deleted(manifest.parent)
    ]
    progress = Progress("validate", len(jobs), "case")
    workers = min(int(os.environ.get("OMP_NUM_THREADS", "1")), len(jobs))
    checked: list[CheckedCase | None] = [None] * len(jobs)
    with ProcessPoolExecutor(max(workers, 1), multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(check_case, *job): place for place, job in enumerate(jobs)}
        for done in as_completed(pending):
            case = checked[pending[done]] = done.result()
            progress.advance(note=f"{case.dataset} {case.case}")
    return [case for case in checked if case is not None]


if __name__ == "__main__":
    stage_command(run, ValidateSettings, Inputs, Outputs)
