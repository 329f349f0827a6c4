"""All CTs that a call names, one after another: a fault of one does not stop the others."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..device import out_of_memory
from ..errors import UserError
from ..files import atomic_folder, atomic_write, disk_full, is_disk_full
from ..progress import Progress, clock, say
from ..version import version
from .confidence import advice
from .ct import Ct, read_ct
from .model import Model, Options, load_models
from .output import RESULT, Wanted, check_formats, check_source, write_segmentation

_BUG = 1
_STATISTICS = "statistics.csv"
_SMALLEST_SHARE = 200
"""How many times smaller than a byte per voxel a written mask is at the least."""


@dataclass(frozen=True)
class Job:
    """What to do with each CT, and where its folder of results goes.

    `existing` decides about a CT whose results are there already. `series_uid` names the series to take of DICOM files.
    """

    out: Path
    models: tuple[Path, ...]
    options: Options
    wanted: Wanted
    existing: Literal["refuse", "skip", "overwrite"] = "refuse"
    allow_other_units: bool = False
    series_uid: str | None = None


def segment_all(cases: Mapping[str, Path], job: Job) -> int:
    """Segment the CTs (name → path) and say what became of each. Exit code: 0, 2 for faults, 1 if there is a bug.

    Raises UserError if the models cannot be used, or for the fault of a single CT.
    """
    todo = _todo(cases, job)
    model = load_models(job.models, job.options) if todo else None
    failed: dict[str, UserError | Exception] = {}
    started = time.monotonic()
    for number, (name, path) in enumerate(todo.items(), start=1):
        assert model is not None
        if number == 1:
            check_formats(job.wanted, len(model.rois))
            for note in model.notes:
                say(f"note: {note}")
            if job.options.fast:
                say("note: --fast: windows lie side by side; results are less exact where they meet")
        try:
            _segment(name, path, model, job)
        except Exception as error:
            failed[name] = fault = _for_people(error, path, job.out)
            if len(cases) == 1 and fault is error:
                raise
            if len(cases) == 1:
                raise fault from error
            say(f"error: {fault}" if isinstance(fault, UserError) else traceback.format_exc())
        if number < len(todo):
            left = (time.monotonic() - started) / number * (len(todo) - number)
            say(f"{number} of {len(todo)} CTs are done, about {clock(left)} left")
    if job.wanted.statistics and len(cases) > 1:
        _join_statistics(job.out, cases)
    say(f"{len(todo) - len(failed)} of {len(cases)} CTs segmented, in {job.out}")
    for name, fault in failed.items():
        say(f"failed: {name}: {fault}")
    return max((_code(fault) for fault in failed.values()), key=lambda code: code == _BUG, default=0)


def _todo(cases: Mapping[str, Path], job: Job) -> dict[str, Path]:
    """The CTs that are left to do; raises UserError where results must not be overwritten."""
    there = [name for name in cases if (job.out / name).exists()]
    foreign = [name for name in there if not (job.out / name / RESULT).is_file()]
    if foreign:
        wrong = "is there already, and does not come from `lacuna predict`"
        raise UserError(str(job.out / foreign[0]), wrong, "name another folder with -o")
    if there and job.existing == "refuse":
        more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
        raise UserError(
            str(job.out / there[0]), f"is there already{more}", "add --existing skip or --existing overwrite"
        )
    if there and job.existing == "skip":
        say(f"{len(there)} of {len(cases)} CTs are already done")
        return {name: path for name, path in cases.items() if name not in there}
    return dict(cases)


def _segment(name: str, path: Path, model: Model, job: Job) -> None:
    """Segment one CT and write its folder, whole or not at all."""
    ct = read_ct(path, name, job.allow_other_units, job.series_uid)
    check_source(job.wanted, ct)
    for note in ct.notes:
        say(f"{path}: note: {note}")
    _check_disk(ct, model, job)
    progress = Progress(f"predict {name}", model.window_count(ct), "windows")
    segmentation = model.predict(ct, on_windows=lambda count, total: progress.advance(count))
    written = Progress(f"write {name}", len(model.rois), "ROIs")
    with atomic_folder(job.out / name) as folder:
        found = write_segmentation(segmentation, folder, job.wanted, version(), lambda roi: written.advance(note=roi))
    if doubt := advice(found):
        say(f"{name}: {doubt}")


def _check_disk(ct: Ct, model: Model, job: Job) -> None:
    """Raise UserError if there is certainly too little space for the results of `ct`."""
    voxels = ct.image.GetNumberOfPixels()
    files = len(job.wanted.formats) + len(model.rois) * (("masks" in job.wanted.formats) + job.wanted.probabilities)
    needed, free = files * voxels // _SMALLEST_SHARE, shutil.disk_usage(job.out).free
    if needed > free:
        wrong = f"has {free / 1e9:.1f} GB free, and the results of {ct.name} need at least {needed / 1e9:.1f} GB"
        raise UserError(str(job.out), wrong, "free some space, or name another folder with -o")


def _for_people(error: Exception, path: Path, out: Path) -> UserError | Exception:
    """A fault that people can do something about in words; a bug as it is."""
    if isinstance(error, UserError):
        return error
    if out_of_memory(error):
        return UserError(str(path), "does not fit into memory", "free some, crop the CT, or use --device cpu")
    if is_disk_full(error):
        return disk_full(error, out, "free some space, or name another folder with -o")
    if isinstance(error, OSError) and error.strerror:
        return UserError(str(error.filename or out), f"cannot be written ({error.strerror})", "check the folder")
    return error


def _code(error: Exception) -> int:
    return error.exit_code if isinstance(error, UserError) else _BUG


def _join_statistics(out: Path, cases: Iterable[str]) -> None:
    """One table of the tables of all cases that have one."""
    tables = [path.read_text(encoding="utf-8") for case in cases if (path := out / case / _STATISTICS).is_file()]
    if tables:
        header = tables[0].partition("\n")[0]
        with atomic_write(out / _STATISTICS) as partial:
            partial.write_text(
                header + "\n" + "".join(table.partition("\n")[2] for table in tables), encoding="utf-8", newline=""
            )
