"""Signs that a training goes wrong, each told in one line while there is time to stop it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

_WINDOWS = 10
_MIN_STEPS = 50
"""Of a training, for the mean over a tenth of it to say anything."""
_FALLEN_TO = 0.95
"""Of the first tenth's loss. Real trainings, good and bad, were at 0.5 to 0.8 of it after three tenths."""
_FIRST_JUDGED = 3

_KINDS = {
    "ambiguous": "the network is unsure of every patch, or the thresholds lie too far apart",
    "positive": "the network finds every ROI everywhere, or positive_above is too low",
    "negative": "the network finds no ROI anywhere, or negative_below is too high",
}
_MIN_DECISIONS = 1000
_ONE_KIND = 0.99

_ZERO_DICE, _TIMES_AT_ZERO, _RISEN_DICE = 0.01, 3, 0.2
_BEHIND_BY, _TIMES_BEHIND = 0.02, 2


class Watcher(Protocol):
    """Looks at the values of every step (`training.step.StepReport`) and returns warnings, each of them once."""

    def note(self, step: int, values: Mapping[str, float], batch_size: int) -> list[str]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class StuckLoss:
    """Watches the loss that is learned from labels alone, `loss/supervised`, or else the total.

    From the third tenth of the training on, the mean over each tenth must be below 95 % of that over the first. It is
    reported once; trainings of fewer than 50 steps are not judged. `learning_rate_key` is the config's.
    """

    def __init__(self, steps: int, learning_rate_key: str) -> None:
        self.steps, self.learning_rate_key = steps, learning_rate_key
        self._window, self._sum, self._count = 0, 0.0, 0
        self._first: float | None = None
        self._told = False

    def note(self, step: int, values: Mapping[str, float], batch_size: int) -> list[str]:
        """Count the losses of the step that made `step` steps done (none if it was skipped); returns warnings."""
        loss = values.get("loss/supervised", values.get("loss/total"))
        if loss is not None:
            self._sum, self._count = self._sum + loss, self._count + 1
        window = step * _WINDOWS // self.steps
        if window == self._window:
            return []
        mean = self._sum / self._count if self._count and self.steps >= _MIN_STEPS else None
        self._window, self._sum, self._count = window, 0.0, 0
        if self._first is None or mean is None:
            self._first = self._first or mean
            return []
        if self._told or window < _FIRST_JUDGED or mean < _FALLEN_TO * self._first:
            return []
        self._told = True
        return [
            f"the loss does not fall: {self._first:.3g} in the first tenth of the training, {mean:.3g} now; probably "
            f"{self.learning_rate_key} is too low or too high, or the images are not in HU: change it, or run "
            f"`snakemake validate`"
        ]

    def state_dict(self) -> dict[str, Any]:
        return {
            "window": self._window,
            "sum": self._sum,
            "count": self._count,
            "first": self._first,
            "told": self._told,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._window, self._sum, self._count = state["window"], state["sum"], state["count"]
        self._first, self._told = state["first"], state["told"]


class OneKindOfDecision:
    """Watches what is decided about unlabelled ROIs, where a task counts `positive`, `negative` and `ambiguous`.

    After the first 1,000 decisions (a sample and an unlabelled ROI each) at most 99 % may be of one kind.
    """

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_KINDS, 0.0)
        self._judged = False

    def note(self, step: int, values: Mapping[str, float], batch_size: int) -> list[str]:
        """Count the decisions of a step, `KIND/ROI` as shares of the batch; returns warnings."""
        if self._judged:
            return []
        kinds = {name.partition("/")[0] for name in values}
        if not kinds.issuperset(_KINDS):
            return []
        for name, share in values.items():
            kind = name.partition("/")[0]
            if kind in _KINDS:
                self._counts[kind] += share * batch_size
        total = sum(self._counts.values())
        if total < _MIN_DECISIONS:
            return []
        self._judged = True
        kind, most = max(self._counts.items(), key=lambda entry: entry[1])
        if most <= _ONE_KIND * total:
            return []
        return [
            f"{most / total:.1%} of the decisions about unlabelled ROIs are {kind}, so existence scores teach nothing; "
            f"probably {_KINDS[kind]}: look at results/roi_aware_network/metrics.json, raise "
            f"roi_aware.optimisation.epochs, or change the method's decision"
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"counts": dict(self._counts), "judged": self._judged}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._counts, self._judged = dict(state["counts"]), state["judged"]


class RoiLeftBehind:
    """Watches the student's validation Dice for ROIs that stay at 0 while the others rise.

    From 30 % of the training on, a ROI is reported, once, if its Dice was below 0.01 in the last three validations and
    the mean over the other ROIs is at least 0.2.
    """

    def __init__(self) -> None:
        self._at_zero: dict[str, int] = {}
        self._told: list[str] = []

    def note(self, share: float, dice: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Count a validation after the `share` (0…1) of the training: network → ROI → Dice; returns warnings."""
        students = dice["student"]
        for roi, value in students.items():
            self._at_zero[roi] = self._at_zero.get(roi, 0) + 1 if value < _ZERO_DICE else 0
        if share < _FIRST_JUDGED / _WINDOWS:
            return []
        warnings = []
        for roi in students:
            others = [value for other, value in students.items() if other != roi]
            risen = sum(others) / len(others) if others else 0.0
            if roi in self._told or self._at_zero[roi] < _TIMES_AT_ZERO or risen < _RISEN_DICE:
                continue
            self._told.append(roi)
            warnings.append(
                f"the validation Dice of {roi} stays at 0, that of the other ROIs has risen to {risen:.2f}; probably "
                f"it fills too few voxels of a crop or its labels are wrong: run `snakemake validate`, raise "
                f"patches.foreground_fraction, or train longer"
            )
        return warnings

    def state_dict(self) -> dict[str, Any]:
        return {"at_zero": dict(self._at_zero), "told": list(self._told)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._at_zero, self._told = dict(state["at_zero"]), list(state["told"])


class TeacherBehind:
    """Watches the mean validation Dice of a teacher, which should be at least as good as its student.

    From 30 % of the training on, it is reported once that it was more than 0.02 lower in two validations running.
    """

    def __init__(self) -> None:
        self._behind = 0
        self._told = False

    def note(self, share: float, dice: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Count a validation after the `share` (0…1) of the training: network → ROI → Dice; returns warnings."""
        student, teacher = dice["student"], dice.get("teacher", {})
        if not student or not teacher:
            return []
        means = [sum(of_rois.values()) / len(of_rois) for of_rois in (student, teacher)]
        self._behind = self._behind + 1 if means[1] < means[0] - _BEHIND_BY else 0
        if self._told or self._behind < _TIMES_BEHIND or share < _FIRST_JUDGED / _WINDOWS:
            return []
        self._told = True
        return [
            f"the teacher is worse than its student: mean validation Dice {means[1]:.3f} and {means[0]:.3f}; probably "
            f"it averages over too many steps for so short a training: lower teacher.decay or set teacher.fast_start"
        ]

    def state_dict(self) -> dict[str, Any]:
        return {"behind": self._behind, "told": self._told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._behind, self._told = state["behind"], state["told"]
