"""Which crops a training learns from, and what its log and its identity say of cases without labels."""

from __future__ import annotations

from ...data.crops import CropPlan, TrainingCase
from ...progress import say
from .settings import Settings, TrainingExecution


def crop_plan(settings: Settings, cases: tuple[TrainingCase, ...], unlabelled_share: float | None = None) -> CropPlan:
    """Which crops are learned from; `unlabelled_share` is the method's unless another is given.

    A method that learns from labels alone has cases without any only where that is not known before the volumes are
    made (`labelled: present`): it has no share for them.
    """
    method = settings.method
    if unlabelled_share is None:
        unlabelled_share = method.unlabelled_share if method.learns_without_labels else 1.0
    return CropPlan.from_cases(cases, settings.optimisation, settings.seed, method.sampling, unlabelled_share)


def limit_in_words(settings: Settings, cases: tuple[TrainingCase, ...]) -> str | None:
    """What the share of cases without labels changes, the same text for the same crops; None if it changes nothing."""
    plan, unlimited = crop_plan(settings, cases), crop_plan(settings, cases, unlabelled_share=1.0)
    words = [f"{plan.unlabelled_per_epoch} in an epoch"] if plan.unlabelled else []
    words += [f"at most {settings.method.unlabelled_share} of the crops"] if plan.shares != unlimited.shares else []
    return ", ".join(words) or None


def say_what_is_learned_from(
    settings: Settings, execution: TrainingExecution, cases: tuple[TrainingCase, ...], title: str
) -> None:
    """A line where cases without labels are left out, or limited to their share; nothing of any other training."""
    if execution.left_out:
        what = f"{execution.left_out} case{'s' * (execution.left_out != 1)} without labels"
        say(f"{title}: leaves out {what}: {settings.method.kind} learns from labels alone")
    if limit_in_words(settings, cases) is None:
        return
    plan = crop_plan(settings, cases)
    unlabelled = sum(not case.labelled.any() for case in cases)
    if plan.shares is not None:
        drawn = f"{plan.epoch_size} crops, drawn with replacement"
        epoch = f"{drawn}, of which the {unlabelled} cases without labels have at most their share"
    elif plan.unlabelled_per_epoch:
        turns = f"{plan.unlabelled_per_epoch} of {unlabelled} without labels, which take turns"
        epoch = f"{len(cases) - unlabelled} labelled cases and {turns}"
    else:
        epoch = f"{len(cases) - unlabelled} labelled cases: the share leaves no room for those without labels"
    say(f"{title}: an epoch is {epoch} (`unlabelled_share: {settings.method.unlabelled_share:g}`)")
