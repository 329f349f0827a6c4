"""Validation during training: which training cases are held out, and how often they are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from ..randomness import random_generator
from .datasets import Dataset
from .folds import all_folds, training_cases
from .method_settings import MethodSettings
from .patients import patient_of_case
from .section import Count, Section
from .sources import same_for_one_source

if TYPE_CHECKING:
    from .schema import Config


class Validation(Section):
    """Training cases that are held out to watch the training; test cases are never among them."""

    fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0,
        description="Share of each data set's training cases that is held out and not learned from, at least one case "
        "of a data set that has two, none of one without labels; `seed` draws them, the same ones for every method (0: "
        "no validation). With `folds` they are drawn from the cases that a fold learns from, never from those that it "
        "holds out.",
    )
    every_epochs: Count = Field(default=100, description="Epochs between two validations; the last step has one too.")
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0, description="Overlap of neighbouring windows; they are as large as the patch."
    )
    max_time_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.03,
        description="Largest share of the time that validations may take: one that would exceed it is left out, except "
        "the first and the last (1: none is). With `keep: best` none is, so that the choice does not depend on speed.",
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Networks that become the model: those of the last step, or those of the validation at which the "
        "student's Dice, averaged over the ROIs, was best.",
    )

    @property
    def that_tells_trainings_apart(self) -> Self:
        """The same without `max_time_share`, which decides what is watched and nothing that is learned."""
        return self.model_copy(update={"max_time_share": type(self).model_fields["max_time_share"].default})

    @model_validator(mode="after")
    def _has_cases_to_choose_by(self) -> Self:
        if self.keep == "best" and self.fraction == 0:
            raise ValueError("`keep: best` needs cases to choose by: set `fraction` above 0")
        return self


def held_out_cases(config: Config, fold: int | None = None) -> dict[str, tuple[str, ...]]:
    """Data set → its held-out cases, sorted, for each that has some; of the training cases of `fold`, if there is one.

    A patient is held out as a whole, also where data sets share one (of one source and one name). A data set without
    labels has none: there is nothing to compare a prediction with.
    """
    without = {dataset.name for dataset in config.datasets.partially_labelled if dataset.has_no_labels}
    return {name: cases for name, cases in _held_out_patients(config, fold).items() if name not in without}


def _held_out_patients(config: Config, fold: int | None) -> dict[str, tuple[str, ...]]:
    """Data set → the cases of the patients that are held out; such a case may be in a data set without labels too."""
    fraction, datasets = config.validation.fraction, config.datasets.partially_labelled
    if fraction == 0:
        return {}
    drawn = []
    for dataset in datasets:
        if dataset.has_no_labels:
            continue
        of_case = patient_of_case(dataset)
        patients = list(dict.fromkeys(of_case[case] for case in training_cases(config, dataset, fold)))
        order = random_generator("held-out cases", config.seed, dataset.name).permutation(len(patients))
        count = min(max(1, round(fraction * len(patients))), len(patients) - 1)
        drawn += [(same_for_one_source(dataset), patients[index]) for index in order[: max(0, count)]]
    found = {}
    for dataset in datasets:
        of_case = patient_of_case(dataset)
        names = {patient for source, patient in drawn if source == same_for_one_source(dataset)}
        if held_out := tuple(case for case in training_cases(config, dataset, fold) if of_case[case] in names):
            found[dataset.name] = held_out
    return found


def learned_cases(config: Config, fold: int | None = None) -> dict[str, tuple[str, ...]]:
    """Data set → the training cases that are learned from, sorted: neither `fold` nor `validation` holds them out."""
    held_out = {name: set(cases) for name, cases in _held_out_patients(config, fold).items()}
    return {
        dataset.name: tuple(
            case for case in training_cases(config, dataset, fold) if case not in held_out.get(dataset.name, ())
        )
        for dataset in config.datasets.partially_labelled
    }


def cases_that_teach(dataset: Dataset, cases: tuple[str, ...], method: MethodSettings) -> tuple[str, ...]:
    """Those of `cases` from which `method` learns something: all of them, or those that label a ROI."""
    return cases if method.learns_without_labels else cases_with_labels(dataset, cases)


def cases_with_labels(dataset: Dataset, cases: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `cases` that label a ROI, and those of which that is not known before the volumes are made."""
    without = dataset.unlabelled_cases
    return tuple(case for case in cases if case not in without)


def cases_of_method(config: Config, method: MethodSettings, fold: int | None = None) -> dict[str, tuple[str, ...]]:
    """Data set → those of the `learned_cases` that teach `method` something.

    A data set of which there are none is left out, unless validation predicts cases of it.
    """
    learned, held_out = learned_cases(config, fold), held_out_cases(config, fold)
    found = {
        dataset.name: cases_that_teach(dataset, learned[dataset.name], method)
        for dataset in config.datasets.partially_labelled
    }
    return {name: cases for name, cases in found.items() if cases or name in held_out}


def check_held_out(config: Config) -> None:
    """ValueError if what a fold leaves to learn from lacks a data set or a ROI."""
    for fold in all_folds(config):
        is_validated = bool(held_out_cases(config, fold))
        if is_validated or fold is not None:
            _check_left(config, fold, is_validated)


def missing_labelled_cases(config: Config, method: MethodSettings) -> str | None:
    """What is wrong with the data sets and numbers that `labelled_cases` names, if anything is, in some fold."""
    with_labels = {dataset.name: dataset for dataset in config.datasets.partially_labelled if not dataset.has_no_labels}
    if unknown := [name for name in method.labelled_cases if name not in with_labels]:
        those = ", ".join(with_labels)
        return f"names {unknown[0]}, which is not a partially labelled data set with labels (those are: {those})"
    for fold in all_folds(config) if method.labelled_cases else ():
        left = learned_cases(config, fold)
        for wanted, count in method.labelled_cases.items():
            having = len(cases_with_labels(with_labels[wanted], left[wanted]))
            if count > having:
                is_validated = bool(held_out_cases(config, fold))
                besides = f" besides those that {_holds_out(fold, is_validated)}" * (is_validated or fold is not None)
                return f"wants {count} of {wanted}, which has {having} to train{besides}"
    return None


def _holds_out(fold: int | None, is_validated: bool) -> str:
    who = " and ".join([f"fold {fold}"] * (fold is not None) + ["`validation`"] * is_validated)
    return f"{who} hold{'s' * (' and ' not in who)} out"


def _check_left(config: Config, fold: int | None, is_validated: bool) -> None:
    holds = _holds_out(fold, is_validated)
    remedies = ["lower `validation.fraction`"] * is_validated + ["change `folds`"] * (fold is not None)
    remedy = f"{', '.join(remedies)} or choose another `seed`"
    left = learned_cases(config, fold)
    labelled: set[str] = set()
    for dataset in config.datasets.partially_labelled:
        cases, by_case = left[dataset.name], dataset.labelled
        if dataset.split_cases("train") and not cases and not dataset.has_no_labels:
            raise ValueError(f"{holds} every training case of {dataset.name}: {remedy}")
        if isinstance(by_case, str):
            labelled |= set(dataset.labels) if cases else set()
        else:
            labelled |= {roi for case in cases for roi in by_case[case]}
    if never := [roi for roi in config.roi_names if roi not in labelled and roi not in config.unlabelled_rois]:
        raise ValueError(f"{holds} every case that labels {', '.join(never)}: {remedy}")
