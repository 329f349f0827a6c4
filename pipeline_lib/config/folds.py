"""Cross-validation: which fold holds out which training cases, by patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..randomness import key_number
from .datasets import Dataset
from .method_settings import SELF_SUPERVISED
from .patients import patient_of_case

if TYPE_CHECKING:
    from .schema import Config


def fold_of_cases(config: Config) -> dict[str, Mapping[str, int]]:
    """Partially labelled data set → training case → the fold that holds it out; nothing without `folds`.

    A patient is in one fold with all cases, also where data sets share one (of one source and one name): such a patient
    is counted with the first of these data sets by name.
    """
    if config.folds is None:
        return {}
    sources: list[object] = []
    fold_of: dict[tuple[int, str], int] = {}
    found: dict[str, Mapping[str, int]] = {}
    for dataset in sorted(config.datasets.partially_labelled, key=lambda each: each.name):
        if dataset.source not in sources:
            sources.append(dataset.source)
        place, patients = sources.index(dataset.source), patient_of_case(dataset)
        cases = dataset.split_cases("train")
        own = tuple(dict.fromkeys(patients[case] for case in cases if (place, patients[case]) not in fold_of))
        of_own = assigned(dataset.name, own, config.folds, config.seed)
        fold_of |= {(place, patient): fold for patient, fold in of_own.items()}
        found[dataset.name] = {case: fold_of[place, patients[case]] for case in cases}
    return found


def assigned(dataset: str, patients: tuple[str, ...], folds: int, seed: int) -> Mapping[str, int]:
    """Patient → fold, for the patients of one data set, in any order. The folds' sizes differ by at most one patient.

    A hash of its name makes each patient's order of preference among the folds, and the order in which patients choose
    a fold that still has room. So it matters little who else is there: another patient moves few of the others.
    """
    smaller, larger = divmod(len(patients), folds)
    by_hash = sorted(range(folds), key=lambda fold: key_number("larger fold", seed, dataset, fold))
    room = {fold: smaller + (place < larger) for place, fold in enumerate(by_hash)}
    found = {}
    for patient in sorted(patients, key=lambda name: key_number("patient", seed, dataset, name)):
        free = (fold for fold, seats in room.items() if seats)
        found[patient] = min(free, key=lambda fold: key_number("fold", seed, dataset, patient, fold))
        room[found[patient]] -= 1
    return found


def out_of_fold_cases(config: Config, dataset: str, fold: int) -> tuple[str, ...]:
    """The training cases of a data set that `fold` holds out, sorted as text."""
    return tuple(case for case, of_case in config.fold_of_cases[dataset].items() if of_case == fold)


def training_cases(config: Config, dataset: Dataset, fold: int | None) -> tuple[str, ...]:
    """The training cases of a data set, sorted as text, but for those that `fold` holds out (None: there are none)."""
    cases = dataset.split_cases("train")
    if fold is None:
        return cases
    of_case = config.fold_of_cases[dataset.name]
    return tuple(case for case in cases if of_case[case] != fold)


def all_folds(config: Config) -> Iterable[int | None]:
    """Every fold; a single None without `folds`."""
    return (None,) if config.folds is None else range(config.folds)


def check_folds(config: Config) -> None:
    """ValueError if a data set has fewer patients than folds, or if a network has seen labels that a fold holds out.

    What a model that a method starts from has seen, nobody knows: it is refused.
    """
    if config.folds is None:
        return
    full = config.datasets.fully_labelled
    for dataset in config.datasets.partially_labelled:
        cases, patient = dataset.split_cases("train"), patient_of_case(dataset)
        count = len({patient[case] for case in cases})
        if cases and count < config.folds:
            remedy = f"set it to at most {count}" if count > 1 else "leave it out, or add patients"
            raise ValueError(
                f"`folds: {config.folds}` is more than the patients that {dataset.name} has to train, {count}: {remedy}"
            )
        if full is not None and full.source == dataset.source:
            of_full = patient_of_case(full)
            if shared := {patient[case] for case in cases} & {of_full[case] for case in full.used_cases}:
                raise ValueError(
                    f"`folds`: {min(shared)} of {dataset.name} is in {full.name} too, so the ROI-aware network would "
                    "have seen labels that a fold holds out: take this patient out of one of the two"
                )
    for name in config.compare or config.methods:
        start = config.methods[name].start_from
        if start is not None and PurePath(start).suffix not in SELF_SUPERVISED:
            raise ValueError(
                f"method {name}: `start_from` names a model that may have learned from the cases that a fold holds "
                "out: leave out `folds`, or start from self-supervised weights (.pt)"
            )
