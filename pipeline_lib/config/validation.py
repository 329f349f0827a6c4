"""Validation during training: which training cases are held out, and how often they are predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from ..randomness import random_generator
from .section import Count, Section

if TYPE_CHECKING:
    from .schema import Config


class Validation(Section):
    """Training cases that are held out to watch the training; test cases are never among them."""

    fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0,
        description="Share of each data set's training cases that is held out and not learned from, at least one case "
        "of a data set that has two; `seed` draws them, the same ones for every method (0: no validation).",
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

    @model_validator(mode="after")
    def _has_cases_to_choose_by(self) -> Self:
        if self.keep == "best" and self.fraction == 0:
            raise ValueError("`keep: best` needs cases to choose by: set `fraction` above 0")
        return self


def held_out_cases(config: Config) -> dict[str, tuple[str, ...]]:
    """Data set → its held-out cases, sorted, for each that has some.

    A patient is held out as a whole: a case that data sets share (of one source and one name) is held out of each.
    """
    fraction, datasets = config.validation.fraction, config.datasets.partially_labelled
    if fraction == 0:
        return {}
    drawn = []
    for dataset in datasets:
        cases = dataset.split_cases("train")
        order = random_generator("held-out cases", config.seed, dataset.name).permutation(len(cases))
        count = min(max(1, round(fraction * len(cases))), len(cases) - 1)
        drawn += [(dataset.source, cases[index]) for index in order[: max(0, count)]]
    found = {}
    for dataset in datasets:
        names = {case for source, case in drawn if source == dataset.source}
        if held_out := tuple(case for case in dataset.split_cases("train") if case in names):
            found[dataset.name] = held_out
    return found


def check_validation(config: Config) -> None:
    """ValueError if what is left to learn from lacks a data set, a ROI, or cases that a method asks for."""
    held_out = held_out_cases(config)
    if not held_out:
        return
    lower = "lower `validation.fraction` or choose another `seed`"
    learned: set[str] = set()
    left = {}
    for dataset in config.datasets.partially_labelled:
        training = dataset.split_cases("train")
        cases = [case for case in training if case not in held_out.get(dataset.name, ())]
        if training and not cases:
            raise ValueError(f"`validation` holds out every training case of {dataset.name}: {lower}")
        left[dataset.name] = len(cases)
        by_case = dataset.labelled
        if isinstance(by_case, str):
            learned |= set(dataset.labels) if cases else set()
        else:
            learned |= {roi for case in cases for roi in by_case[case]}
    if never := [roi for roi in config.roi_names if roi not in learned]:
        raise ValueError(f"`validation` holds out every case that labels {', '.join(never)}: {lower}")
    for name, method in config.methods.items():
        for labelled, count in method.labelled_cases.items():
            if count > left[labelled]:
                raise ValueError(
                    f"method {name}: `labelled_cases` wants {count} of {labelled}, which has {left[labelled]} to train "
                    "besides those that `validation` holds out"
                )
