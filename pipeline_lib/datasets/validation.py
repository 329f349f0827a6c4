"""Everything that is wrong with the raw cases of data sets, found in one go.

Each file is read once; what is wrong with it becomes one finding. A finding is a fault, or only a note: something that
is legitimate and that the user may want to know. Known-bad cases belong under the data set's `skip:`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import SimpleITK as sitk

from ..config.datasets import Dataset
from ..config.label_names import MatchedNames
from ..config.layouts import published
from ..errors import UserError
from ..geometry import Geometry, to_canonical
from .case_labels import CaseLabels
from .descriptions import NAME, contradictions
from .hounsfield import unit_fault, unit_note
from .images import ReadImage
from .readers import CaseFiles, better_layout, case_files, read_case_image, read_labels, same_grid

# Far beyond any CT: a header that says so is wrong.
LEAST_SPACING_MM, MOST_SPACING_MM = 0.05, 20.0
ENOUGH_CASES_TO_JUDGE = 5


@dataclass(frozen=True)
class Finding:
    """What is wrong with one file, or only worth a note, and what to do about it."""

    file: Path
    wrong: str
    remedy: str = ""
    is_note: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {'note: ' * self.is_note}{self.wrong}{f'; {self.remedy}' * bool(self.remedy)}"


@dataclass(frozen=True)
class CheckedCase:
    """One case with what is wrong with its files.

    `digest` is that of the image's voxels, whatever the order of its axes; empty if it cannot be read. `labelled` are
    the targets that the case labels and `present` those of them that have a voxel, None if a label cannot be read.
    `names` says how the names of the masks matched those of the ROIs.
    """

    dataset: str
    case: str
    split: Literal["train", "test"]
    image: Path
    digest: str
    findings: tuple[Finding, ...]
    present: tuple[str, ...] | None = None
    labelled: tuple[str, ...] | None = None
    names: MatchedNames | None = None

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.is_note)


def check_case(dataset: Dataset, raw_folder: Path, case: str, targets: tuple[str, ...]) -> CheckedCase:
    """Read the case's image and all its labels; whatever goes wrong with them becomes a finding."""
    root = raw_folder / dataset.root
    split = "train" if case in dataset.split_cases("train") else "test"
    try:
        files = case_files(dataset.layout, root, case, targets, dataset.labelling(case))
        digest, read, findings = _check_image(dataset, root, case, files)
        labels, present, more = _check_labels(dataset, files, case, targets, None if read is None else read.image)
        findings += [finding for finding in more if finding not in findings]
        labelled, names = (None, files.names) if labels is None else (labels.labelled, labels.names)
        return CheckedCase(dataset.name, case, split, files.image, digest, tuple(findings), present, labelled, names)
    except UserError as error:
        finding = Finding(Path(error.where), error.wrong, error.remedy)
    except Exception as error:
        finding = unexpected(root / case, error)
    return CheckedCase(dataset.name, case, split, root / case, "", (finding,))


def unexpected(where: Path, error: Exception) -> Finding:
    """A finding for what no check foresaw."""
    what = " ".join(str(error).split()) or "no message"
    return Finding(where, f"cannot be checked ({type(error).__name__}: {what})", "look at the file, or skip the case")


def repeated_cases(cases: Iterable[CheckedCase], datasets: Mapping[str, Dataset]) -> Iterator[Finding]:
    """A finding for each case whose image is voxel by voxel that of an earlier one, in whatever order of axes.

    Two data sets that train on one image and label different ROIs of it are only noted: public collections overlap.
    """
    first: dict[str, CheckedCase] = {}
    for checked in cases:
        if not checked.digest:
            continue
        earlier = first.setdefault(checked.digest, checked)
        if earlier is checked:
            continue
        other = f"the same image as {earlier.dataset} {earlier.case}"
        # The copy without labels can go. Folds and validation know by source and name alone that it is one patient.
        without = [each.dataset for each in (earlier, checked) if datasets[each.dataset].has_no_labels]
        remedy = f"list it under `skip:` of {without[0]}" if len(without) == 1 else "list one of the two under `skip:`"
        if earlier.split != checked.split:
            wrong = f"is in both splits: {other}, which is for {earlier.split}"
            yield Finding(checked.image, wrong, remedy)
        elif datasets[earlier.dataset].labels.keys() == datasets[checked.dataset].labels.keys():
            yield Finding(checked.image, f"is there twice: {other}", remedy)
        elif without:
            wrong = f"is there twice, without labels in {without[0]}: {other}"
            yield Finding(checked.image, wrong, remedy, is_note=True)
        else:
            yield Finding(checked.image, f"is there twice, with labels of other ROIs: {other}", is_note=True)


def check_dataset(
    dataset: Dataset, raw_folder: Path, cases: Iterable[CheckedCase], organs: Mapping[str, str]
) -> Iterator[Finding]:
    """What is wrong with a data set as a whole: its dataset.json, ROIs that no case holds, tumours outside organs.

    `organs` maps a ROI to the ROI that it lies in.
    """
    root = raw_folder / dataset.root
    for wrong, remedy in contradictions(dataset, root):
        yield Finding(root / NAME, wrong, remedy)
    for roi, organ in organs.items():
        values = dataset.label_values
        outside = sorted(set(values.get(roi, ())) - set(values.get(organ, ())))
        if outside and organ in values:
            wrong = f"{roi} belongs to {organ}, but its label value {outside[0]} is not among those of {organ}"
            yield Finding(Path(dataset.name), wrong, f"write {organ}: {_with(values[organ], outside)}")
    checked = [case.present for case in cases if case.present is not None]
    held = {target for present in checked for target in present}
    for roi in dataset.labels:
        if checked and roi not in held:
            yield Finding(Path(dataset.name), f"labels {roi}, but no case holds a voxel of it", "correct `labels`")


def check_held_out(dataset: Dataset, held_out_cases: int) -> Iterator[Finding]:
    """A note where the ROI-aware network would be judged on too few cases for its figures to mean anything."""
    if held_out_cases < ENOUGH_CASES_TO_JUDGE:
        wrong = f"leaves {held_out_cases} case{'s' * (held_out_cases != 1)} to evaluate the ROI-aware network"
        yield Finding(Path(dataset.name), f"{wrong}, too few to judge it", is_note=True)


def _with(values: tuple[int, ...], more: list[int]) -> list[int]:
    return sorted({*values, *more})


def _check_image(
    dataset: Dataset, root: Path, case: str, files: CaseFiles
) -> tuple[str, ReadImage | None, list[Finding]]:
    """Digest, the image if it can be read, and findings."""
    file = files.image
    try:
        read = read_case_image(files)
    except UserError as error:
        elsewhere = better_layout(dataset.layout, root, case) if error.wrong == "is missing" else ""
        return "", None, [Finding(Path(error.where), error.wrong, elsewhere or error.remedy)]
    findings = [Finding(file, note, is_note=True) for note in read.notes]
    voxels, spacing = sitk.GetArrayViewFromImage(read.image), read.image.GetSpacing()
    if min(spacing) < LEAST_SPACING_MM or max(spacing) > MOST_SPACING_MM:
        shown = "×".join(f"{side:g}" for side in spacing)
        findings.append(Finding(file, f"has an absurd spacing of {shown} mm", "correct the header"))
    if fault := unit_fault(voxels):
        findings.append(Finding(file, *fault))
    elif note := unit_note(voxels):
        findings.append(Finding(file, note, is_note=True))
    return _digest(read.image), read, findings


def _digest(image: sitk.Image) -> str:
    """A fingerprint of an image's voxels that is the same in every order and sense of its axes, and for every type."""
    upright = to_canonical(sitk.GetArrayViewFromImage(image), Geometry.from_image(image))
    digest = hashlib.blake2b(str(upright.shape).encode(), digest_size=16)
    for plane in upright:
        digest.update(np.ascontiguousarray(plane, np.float32) + np.float32(0))  # −0 is 0
    return digest.hexdigest()


def _check_labels(
    dataset: Dataset, files: CaseFiles, case: str, targets: tuple[str, ...], image: sitk.Image | None
) -> tuple[CaseLabels | None, tuple[str, ...] | None, list[Finding]]:
    """The case's labels, the targets that have a voxel (None where a label cannot be read), and findings."""
    # Without an image there is no grid to compare with.
    check_grid = (lambda *_: None) if image is None else same_grid(image, files.image)
    try:
        labels = read_labels(files, targets, dataset.labelling(case), check_grid)
    except UserError as error:
        return None, None, [Finding(Path(error.where), error.wrong, error.remedy)]
    except Exception as error:
        return None, None, [unexpected(files.label_map or files.image, error)]
    findings, present = [], []
    for target in labels.labelled:
        try:
            present += [target] if labels.mask(target).any() else []
        except UserError as error:
            findings.append(Finding(Path(error.where), error.wrong, error.remedy))
        except Exception as error:
            findings.append(unexpected(files.masks[target][0] if files.masks else files.image, error))
    if findings:
        return None, None, findings
    return labels, tuple(present), list(_notes(dataset, files, labels, present))


def _notes(dataset: Dataset, files: CaseFiles, labels: CaseLabels, present: list[str]) -> Iterator[Finding]:
    where = files.label_map or files.image
    if dataset.has_no_labels:
        return
    if not labels.labelled:
        yield Finding(where, "labels no ROI; it counts as an unlabelled case", is_note=True)
    elif not present:
        what = "has only empty masks" if published(dataset.layout).files.has_masks else "has no labelled voxel"
        yield Finding(where, f"{what}; it counts as a case without these ROIs", is_note=True)
    for roi, names in labels.names.incomplete.items() if labels.names else ():
        yield Finding(where, f"has {', '.join(names)} alone of {roi}, which is unknown here", is_note=True)
