"""Which cases are of one patient, so that what is held out is held out as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .datasets import Dataset


def patient_of_case(dataset: Dataset) -> dict[str, str]:
    """Case → its patient, who has the case's own name where `patients` names no other; those to skip included."""
    named = {case: patient for patient, cases in dataset.patients.items() for case in cases}
    return {case: named.get(case, case) for case in dataset.all_cases}


def check_patients(dataset: Dataset) -> None:
    """ValueError if `patients` names no case or one twice, or if a patient is in both parts of the split."""
    listed = [case for cases in dataset.patients.values() for case in cases]
    if unknown := sorted(set(listed) - set(dataset.all_cases)):
        raise ValueError(f"data set {dataset.name}: `patients` names no case: {', '.join(unknown[:5])}")
    if twice := sorted({case for case in listed if listed.count(case) > 1}):
        raise ValueError(f"data set {dataset.name}: `patients` names twice: {', '.join(twice[:5])}")
    if not listed:
        return
    patients = patient_of_case(dataset)
    trained, tested = ({patients[case] for case in dataset.split_cases(part)} for part in ("train", "test"))
    if both := sorted(trained & tested):
        raise ValueError(
            f"data set {dataset.name}: patient {both[0]} has training and test cases: put all of them into one part of "
            "`split`"
        )
