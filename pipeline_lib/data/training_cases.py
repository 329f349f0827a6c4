"""The cases that a training learns from, with their pools and existence scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config.volumes import Patches
from ..errors import UserError
from ..files import fingerprint
from ..volumes.record import CaseRecord
from ..volumes.store import open_volume
from .crops import TrainingCase
from .pool import count_labelled, pool_positions

STARTS = ["z", "y", "x"]
"""Columns of a patch's start index in the table of existence scores."""

_SCORED_BY = "scored_by"
_WRITTEN = "scores_as_written"

_RESAMPLE = "delete its folder and run `snakemake volumes --cores all`"
_SCORE_AGAIN = "run `snakemake existence --cores all --forcerun score_existence`"


def score_column(roi: str) -> str:
    """Column of `roi`'s scores in the table of existence scores."""
    return f"score_{roi}"


def sign_scores(table: pd.DataFrame, rois: Sequence[str], scored_by: str) -> None:
    """Note in `table` what its scores were computed from."""
    table.attrs = {_SCORED_BY: scored_by, _WRITTEN: _scores_digest(table, rois)}


def scored_by(table: pd.DataFrame, rois: Sequence[str]) -> str | None:
    """What the scores of `table` were computed from; None if nobody noted it, or if they were edited since."""
    if table.attrs.get(_WRITTEN) != _scores_digest(table, rois):
        return None
    return str(table.attrs[_SCORED_BY])


def scored_cases(
    cases: Mapping[str, Sequence[str]],
    labelled: Mapping[str, Sequence[str]],
    rois: Sequence[str],
    volumes: Sequence[Path],
    tables: Sequence[Path],
) -> tuple[TrainingCase, ...]:
    """The training cases of all data sets, in the order of `cases`, with their pools and scores.

    Which ROIs a case labels stands in its volume's record, for it may differ from case to case; `labelled` has all that
    a data set labels.

    `volumes` are the folders of the data sets' volumes and `tables` their tables of existence scores, in the same
    order. UserError: a table lacks a case or a ROI, or a volume labels another ROI than its data set.
    """
    found = []
    for (dataset, names), folder, path in zip(cases.items(), volumes, tables, strict=True):
        table = _read_table(path, rois)
        origin = scored_by(table, rois)
        rows_of_case = dict(tuple(table.groupby("case")))
        if missing := [name for name in names if name not in rows_of_case]:
            raise UserError(str(path), f"has no patches of case {missing[0]}", _SCORE_AGAIN)
        # A case may be listed several times.
        flags = {name: _labelled(folder / name, rois, labelled[dataset]) for name in dict.fromkeys(names)}
        for name in names:
            rows = rows_of_case[name].sort_values("patch")
            pool = rows[STARTS].to_numpy(np.int64)
            scores = rows[[score_column(roi) for roi in rois]].to_numpy(np.float32)
            found.append(TrainingCase(dataset, name, folder / name, flags[name], pool, scores, origin))
    return tuple(found)


def validation_cases(
    cases: Mapping[str, Sequence[str]],
    labelled: Mapping[str, Sequence[str]],
    rois: Sequence[str],
    volumes: Mapping[str, Path],
) -> tuple[TrainingCase, ...]:
    """The held-out cases of all data sets, whose volumes lie in `volumes`; their pools are empty, for none is drawn.

    UserError: a volume labels another ROI than its data set.
    """
    nothing = np.empty((0, len(STARTS)), np.int64)
    return tuple(
        TrainingCase(dataset, name, folder, _labelled(folder, rois, labelled[dataset]), nothing)
        for dataset, names in cases.items()
        for name in names
        for folder in (volumes[dataset] / name,)
    )


def fully_labelled_cases(
    names: Sequence[str], folder: Path, structures: Sequence[str], patches: Patches, seed: int
) -> tuple[TrainingCase, ...]:
    """Cases of the fully labelled data set, whose volumes lie in `folder`, with freshly drawn pools.

    UserError: a volume has other labels than `structures`.
    """
    records = [_record(folder / name, structures, "roi_aware.structures") for name in names]
    counts, found = count_labelled(records), []
    for name, record in zip(names, records, strict=True):
        pool = pool_positions(record, patches, seed, counts)
        labelled = np.isin(structures, record.labelled)
        found.append(TrainingCase(record.dataset, name, folder / name, labelled, pool))
    return tuple(found)


def _labelled(folder: Path, rois: Sequence[str], by_dataset: Sequence[str]) -> NDArray[np.bool_]:
    """Which ROIs a case labels, bool K; UserError if its data set labels fewer."""
    record = _record(folder, rois, "rois")
    if stale := sorted(set(record.labelled) - set(by_dataset)):
        raise UserError(str(folder), f"labels {stale[0]}, which the config's data set does not", _RESAMPLE)
    return np.isin(rois, record.labelled)


def _record(folder: Path, targets: Sequence[str], key: str) -> CaseRecord:
    """The record of the volume in `folder`; UserError unless its labels are those of `targets`, the config's `key`."""
    record = open_volume(folder).record
    if record.targets != tuple(targets):
        raise UserError(str(folder), f"holds other labels than {key}", _RESAMPLE)
    return record


def _scores_digest(table: pd.DataFrame, rois: Sequence[str]) -> str:
    rows = table.sort_values(["case", "patch"])
    scores = rows[[score_column(roi) for roi in rois]].to_numpy(np.float32)
    return fingerprint(np.ascontiguousarray(scores).tobytes())


def _read_table(path: Path, rois: Sequence[str]) -> pd.DataFrame:
    columns = ["case", "patch", *STARTS, *(score_column(roi) for roi in rois)]
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        wrong = f"is not a table of existence scores of these ROIs ({str(error).splitlines()[0]})"
        raise UserError(str(path), wrong, _SCORE_AGAIN) from error
