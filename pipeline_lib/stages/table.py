"""All stages: the verb that is its rule's name, and the module that says what it depends on, reads and writes.

A stage's settings module has `Settings`, `settings_from(config, …)`, `Inputs` and `Outputs`. If the stage has settings
of how it runs, whose edit reruns nothing, it has `Execution` and `execution_from(config, …)` too.

`VERSION` is that of stages which are not rerun after every edit of their code, because they cost much or trainings
depend on them: raise it when the results change, a default included, and Snakemake reruns the stage. All other stages
have their code as an input.
"""

from __future__ import annotations

from types import ModuleType

from .acquire import settings as acquire
from .acquire_encoder import settings as acquire_encoder
from .check_existence import settings as check_existence
from .check_pseudo_labels import settings as check_pseudo_labels
from .delete_raw import settings as delete_raw
from .embed import settings as embed
from .list_cases import settings as list_cases
from .predict import settings as predict
from .resample import settings as resample
from .score import settings as score
from .score_existence import settings as score_existence
from .train import settings as train
from .train_roi_aware import settings as train_roi_aware
from .validate import settings as validate
from .write_report import settings as write_report

STAGES: dict[str, ModuleType] = {
    "acquire": acquire,
    "acquire_encoder": acquire_encoder,
    "validate": validate,
    "resample": resample,
    "list_cases": list_cases,
    "delete_raw": delete_raw,
    "embed": embed,
    "train_roi_aware": train_roi_aware,
    "score_existence": score_existence,
    "check_existence": check_existence,
    "train": train,
    "check_pseudo_labels": check_pseudo_labels,
    "predict": predict,
    "score": score,
    "write_report": write_report,
}


def version_of(stage: str) -> int | None:
    """The version of a stage; None if its code is an input of its rule instead."""
    return getattr(STAGES[stage], "VERSION", None)


def has_execution(stage: str) -> bool:
    """Whether a stage has settings of how it runs."""
    return hasattr(STAGES[stage], "Execution")
