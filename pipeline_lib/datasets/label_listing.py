"""What the cases of data sets label, as validate lists it: which ROIs, by which names, and which in hardly any case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..config.datasets import Dataset
from .validation import CheckedCase, Finding

_FEWEST_CASES = 2


def label_notes(dataset: Dataset, cases: Sequence[CheckedCase]) -> Iterator[Finding]:
    """Notes on what each case labels, where cases differ, and on the names by which masks were found."""
    if dataset.has_no_labels:
        yield _note(dataset, f"has no labels: {_counted(len(cases))} for the methods that learn without labels")
        return
    by_rois: dict[tuple[str, ...], list[str]] = {}
    for case in cases:
        if case.labelled is not None:
            by_rois.setdefault(case.labelled, []).append(case.case)
    for rois, names in by_rois.items() if len(by_rois) > 1 else ():
        verb = "label" if len(names) > 1 else "labels"
        yield _note(dataset, f"{_counted(len(names))} {verb} {', '.join(rois) or 'nothing'}: {', '.join(names)}")
    matched = [case.names for case in cases if case.names is not None]
    for roi in dataset.labels:
        found = Counter(name for names in matched for name in {**names.found, **names.incomplete}.get(roi, ()))
        if found:
            yield _note(dataset, f"{roi} is the name {_in_cases(found)}")
        elif matched:
            yield _note(dataset, f"{roi} has no mask by any of its names")
    if unmatched := Counter(name for names in matched for name in names.unmatched):
        yield _note(dataset, f"masks that no ROI's name matches: {_in_cases(unmatched)}")


def rarely_labelled(cases: Sequence[CheckedCase], targets: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Notes on targets that fewer than two training cases label, over all data sets with the same `targets`.

    `targets` are the label bits of each data set. A case that could not be read may label anything.
    """
    for shared in dict.fromkeys(targets.values()):
        training = [case for case in cases if case.split == "train" and targets[case.dataset] == shared]
        counts = Counter(target for case in training for target in (shared if case.labelled is None else case.labelled))
        for target in shared:
            if training and counts[target] < _FEWEST_CASES:
                wrong = f"is labelled in {_counted(counts[target], 'training case')}, too few to learn it from"
                yield Finding(Path(target), wrong, is_note=True)


def _note(dataset: Dataset, text: str) -> Finding:
    return Finding(Path(dataset.name), text, is_note=True)


def _in_cases(names: Counter[str]) -> str:
    return ", ".join(f"{name} ({_counted(count)})" for name, count in sorted(names.items()))


def _counted(number: int, noun: str = "case") -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
