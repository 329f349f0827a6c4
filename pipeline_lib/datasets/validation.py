"""Everything that is wrong with the raw cases of data sets, found in one go.

Each file is read once; what is wrong with it becomes one finding. Known-bad cases belong under the data set's `skip:`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..config.datasets import Dataset
from ..errors import UserError
from .images import read_image
from .readers import CaseFiles, case_files, label_map_fault, read_on_grid

# Far beyond any CT: a header that says so is wrong.
LEAST_SPACING_MM, MOST_SPACING_MM = 0.05, 20.0


@dataclass(frozen=True)
class Finding:
    """What is wrong with one file."""

    file: Path
    wrong: str

    def __str__(self) -> str:
        return f"{self.file}: {self.wrong}"


@dataclass(frozen=True)
class CheckedCase:
    """One case with what is wrong with its files; `digest` (of the image's voxels) is empty if it cannot be read."""

    dataset: str
    case: str
    split: Literal["train", "test"]
    image: Path
    digest: str
    findings: tuple[Finding, ...]


def check_case(dataset: Dataset, raw_folder: Path, case: str, targets: tuple[str, ...]) -> CheckedCase:
    """Read the case's image and all its labels."""
    files = case_files(dataset.layout, raw_folder / dataset.root, case, targets)
    split = "train" if case in dataset.split_cases("train") else "test"
    findings, digest, image = [], "", None
    try:
        image = read_image(files.image)
    except UserError as error:
        findings.append(Finding(files.image, error.wrong))
    else:
        voxels = sitk.GetArrayViewFromImage(image)
        digest = hashlib.blake2b(np.ascontiguousarray(voxels), digest_size=16).hexdigest()
        if wrong := "; ".join(_image_faults(image, voxels)):
            findings.append(Finding(files.image, wrong))
    findings += _label_findings(dataset, files, image)
    return CheckedCase(dataset.name, case, split, files.image, digest, tuple(findings))


def repeated_cases(cases: Iterable[CheckedCase]) -> Iterator[Finding]:
    """A finding for each case whose image is voxel by voxel that of an earlier one."""
    first: dict[str, CheckedCase] = {}
    for checked in cases:
        if not checked.digest:
            continue
        earlier = first.setdefault(checked.digest, checked)
        if earlier is not checked:
            other = f"{earlier.dataset} {earlier.case}"
            if earlier.split != checked.split:
                yield Finding(
                    checked.image, f"is in both splits: the same image as {other}, which is for {earlier.split}"
                )
            else:
                yield Finding(checked.image, f"is there twice: the same image as {other}")


def _image_faults(image: sitk.Image, voxels: np.ndarray) -> Iterator[str]:
    spacing = image.GetSpacing()
    if min(spacing) < LEAST_SPACING_MM or max(spacing) > MOST_SPACING_MM:
        yield f"has an absurd spacing of {'×'.join(f'{side:g}' for side in spacing)} mm"
    if voxels.min() == voxels.max():
        yield f"is constant ({voxels.flat[0]} everywhere)"


def _label_findings(dataset: Dataset, files: CaseFiles, image: sitk.Image | None) -> list[Finding]:
    findings = []
    label_files = [files.label_map] if files.label_map is not None else list(files.masks.values())
    occupied = False
    for file in label_files:
        try:
            voxels = _label_voxels(file, image, files.image)
        except UserError as error:
            findings.append(Finding(file, error.wrong))
            continue
        occupied = occupied or bool(voxels.any())
        if files.label_map is not None and (wrong := label_map_fault(voxels, dataset.labels, dataset.ignored_labels)):
            findings.append(Finding(file, wrong))
    if not occupied and not findings:
        where = label_files[0] if files.label_map is not None else files.image
        findings.append(Finding(where, "has an empty label" if files.label_map is not None else "has only empty masks"))
    return findings


def _label_voxels(file: Path, image: sitk.Image | None, image_file: Path) -> np.ndarray:
    """The label's voxels; read on its own where there is no image to compare its grid with."""
    return sitk.GetArrayFromImage(read_image(file)) if image is None else read_on_grid(file, image, image_file)
