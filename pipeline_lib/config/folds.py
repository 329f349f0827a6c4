"""Cross-validation: which fold holds out which training cases, by patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..randomness import key_number
from .datasets import Dataset
from .patients import patient_of_case
from .sources import same_for_one_source

if TYPE_CHECKING:
    from .schema import Config


def fold_of_cases(config: Config) -> dict[str, Mapping[str, int]]:
    """Partially labelled data set → training case → the fold that holds it out; nothing without `folds`.

    A patient is in one fold with all cases, also where data sets share one (of one source and one name): such a patient
    is counted with the first of these data sets by name. A case of a data set without labels is held out only if its
    patient is: there is nothing to score it with.
    """
    if config.folds is None:
        return {}
    sources: list[object] = []
    fold_of: dict[tuple[int, str], int] = {}
    found: dict[str, Mapping[str, int]] = {}
    for dataset in sorted(config.datasets.partially_labelled, key=lambda each: (each.has_no_labels, each.name)):
        source, patients = same_for_one_source(dataset), patient_of_case(dataset)
        if source not in sources:
            sources.append(source)
        place = sources.index(source)
        cases = dataset.split_cases("train")
        if dataset.has_no_labels:
            found[dataset.name] = {
                case: fold_of[place, patients[case]] for case in cases if (place, patients[case]) in fold_of
            }
            continue
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
    """The training cases of a data set that `fold` holds out and that predictions are scored on, sorted as text."""
    if config.dataset(dataset).has_no_labels:
        return ()
    return tuple(case for case, of_case in config.fold_of_cases[dataset].items() if of_case == fold)


def training_cases(config: Config, dataset: Dataset, fold: int | None) -> tuple[str, ...]:
    """The training cases of a data set, sorted as text, except those that `fold` holds out (None: no folds).

    Of a data set without labels neither those of a patient whom another data set of its source tests.
    """
    cases = dataset.split_cases("train")
    if dataset.has_no_labels and (tested := _tested_patients(config, dataset)):
        patients = patient_of_case(dataset)
        cases = tuple(case for case in cases if patients[case] not in tested)
    if fold is None:
        return cases
    of_case = config.fold_of_cases[dataset.name]
    return tuple(case for case in cases if of_case.get(case) != fold)


def _tested_patients(config: Config, dataset: Dataset) -> set[str]:
    """The patients who have test cases in some data set of the same source."""
    source = same_for_one_source(dataset)
    return {
        patient_of_case(each)[case]
        for each in config.datasets.partially_labelled
        if same_for_one_source(each) == source
        for case in each.split_cases("test")
    }


def all_folds(config: Config) -> Iterable[int | None]:
    """Every fold; a single None without `folds`."""
    return (None,) if config.folds is None else range(config.folds)


def check_folds(config: Config) -> None:
    """ValueError if a data set has fewer patients than folds, or shares a patient with the fully labelled one.

    The ROI-aware network has seen the labels of such a patient. check_methods refuses start models.
    """
    if config.folds is None:
        return
    full = config.datasets.fully_labelled
    for dataset in config.datasets.partially_labelled:
        if dataset.has_no_labels:
            continue
        cases, patient = dataset.split_cases("train"), patient_of_case(dataset)
        count = len({patient[case] for case in cases})
        if cases and count < config.folds:
            remedy = f"set it to at most {count}" if count > 1 else "leave it out, or add patients"
            raise ValueError(
                f"`folds: {config.folds}` is more than the patients that {dataset.name} has to train, {count}: {remedy}"
            )
        if full is not None and same_for_one_source(full) == same_for_one_source(dataset):
            of_full = patient_of_case(full)
            if shared := {patient[case] for case in cases} & {of_full[case] for case in full.used_cases}:
                raise ValueError(
                    f"`folds`: {min(shared)} of {dataset.name} is in {full.name} too, so the ROI-aware network would "
                    "have seen labels that a fold holds out: take this patient out of one of the two"
                )
