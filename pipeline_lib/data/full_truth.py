"""Training cases with the full truth in place of their labels; for checks, never for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..progress import Progress
from ..volumes.full_truth import link_with_full_truth
from ..volumes.store import open_volume
from .crops import TrainingCase


def with_full_truth(
    cases: Sequence[TrainingCase], folders: Mapping[str, Path], scratch: Path, title: str
) -> tuple[TrainingCase, ...]:
    """The cases; those of a data set in `folders` become volumes below `scratch` whose labels are the full truth.

    `folders` hold the truth of each case, by data set. A case may come several times. Its flags still say which ROIs
    it labels.
    """
    progress, made, found = Progress(title, len(cases), "cases"), dict[tuple[str, str], Path](), []
    for case in cases:
        if case.dataset in folders:
            key = (case.dataset, case.name)
            if key not in made:
                truth = folders[case.dataset] / f"{case.name}.nii.gz"
                made[key] = link_with_full_truth(
                    open_volume(case.folder), truth, scratch / case.dataset / case.name
                ).folder
            case = replace(case, folder=made[key])
        found.append(case)
        progress.advance()
    return tuple(found)
