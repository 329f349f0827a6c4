"""Read every raw case of every data set and list all that is wrong with them, a line for each finding.

    python -m pipeline_lib.stages.validate.run --settings SETTINGS \\
        --manifests resources/raw/A/manifest.json resources/raw/B/manifest.json … --cases results/validation.csv

No rule of the pipeline needs it: it is for users who want to know before they spend GPU hours. It reads as many cases
at a time as OMP_NUM_THREADS says, which Snakemake sets to the job's threads.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from ...config.datasets import Dataset
from ...datasets.deletion import is_deleted
from ...datasets.label_listing import label_notes, rarely_labelled
from ...datasets.validation import (
    CheckedCase,
    Finding,
    check_case,
    check_dataset,
    check_held_out,
    repeated_cases,
    unexpected,
)
from ...errors import UserError
from ...files import atomic_write
from ...progress import Progress, say
from ..command import stage_command
from .settings import Inputs, Outputs, Settings


def run(settings: Settings, inputs: Inputs, outputs: Outputs) -> None:
    """List every finding, notes before faults; raises UserError if there are faults."""
    checked = _check(settings, inputs)
    findings = list(_findings(settings, inputs, checked))
    faults = [finding for finding in findings if not finding.is_note]
    for finding in (*(finding for finding in findings if finding.is_note), *faults):
        say(str(finding))
    if faults:
        raise UserError(
            f"{len(checked)} raw cases",
            f"{len(faults)} fault{'s' * (len(faults) > 1)}, listed above",
            "fix them as each line says, or list their cases under the data set's `skip:` with the reason",
        )
    if findings:
        say(f"{len(checked)} raw cases: no fault, {len(findings)} note{'s' * (len(findings) > 1)}, listed above")
    with atomic_write(outputs.cases) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("dataset", "case", "split", "labelled", "image", "digest", "notes"))
        for case in checked:
            notes = "; ".join(finding.wrong for finding in case.findings)
            labelled = " ".join(case.labelled or ())
            writer.writerow((case.dataset, case.case, case.split, labelled, case.image, case.digest, notes))


def _findings(settings: Settings, inputs: Inputs, checked: list[CheckedCase]) -> Iterator[Finding]:
    """Findings of single cases, of cases among each other, and of data sets as a whole."""
    for case in checked:
        yield from case.findings
    yield from repeated_cases(checked, {dataset.name: dataset for dataset in settings.datasets})
    for dataset, manifest in zip(settings.datasets, inputs.manifests, strict=True):
        own = [case for case in checked if case.dataset == dataset.name]
        if not is_deleted(manifest.parent):
            try:
                yield from check_dataset(dataset, manifest.parent, own, settings.organs)
                yield from label_notes(dataset, own)
            except Exception as error:
                yield unexpected(manifest.parent, error)
        if dataset.name in settings.held_out_cases:
            yield from check_held_out(dataset, settings.held_out_cases[dataset.name])
    names = (dataset.name for dataset in settings.datasets)
    yield from rarely_labelled(checked, dict(zip(names, settings.targets, strict=True)))


def _check(settings: Settings, inputs: Inputs) -> list[CheckedCase]:
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
            place = pending[done]
            case = checked[place] = _result(done, *jobs[place])
            progress.advance(note=f"{case.dataset} {case.case}")
    return [case for case in checked if case is not None]


def _result(done: Future[CheckedCase], dataset: Dataset, raw: Path, case: str, targets: tuple[str, ...]) -> CheckedCase:
    """What a worker found; a worker that was killed is a finding of its case, and hides none of the others."""
    try:
        return done.result()
    except BrokenExecutor as error:
        split = "train" if case in dataset.split_cases("train") else "test"
        where = raw / dataset.root / case
        return CheckedCase(dataset.name, case, split, where, "", (unexpected(where, error),))


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs)
