"""Validation while a network trains: held-out cases are predicted every few epochs, and scored where they are labelled.

It changes nothing that is learned, and chooses nothing unless it is asked to keep the best networks. Each case is
predicted by one rank; the means are the same however many ranks there are. Its time is limited: a validation that would
exceed its share is left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import nn

from ..data.crops import CropPlan, TrainingCase
from ..inference.case_dice import case_dice
from ..inference.sliding_window import SlidingWindow, window_count
from ..volumes.store import open_volume
from .distributed import Distributed
from .early_warnings import RoiLeftBehind, TeacherBehind
from .stopping import StopRequest

STUDENT, TEACHER = "student", "teacher"

_COLUMNS = {STUDENT: "validation_dice", TEACHER: "teacher_validation_dice"}
"""Network → the history's entry with the Dice of each ROI; with `_mean` behind it, their mean."""

Dice = dict[str, dict[str, float]]
"""Network → ROI → mean Dice over the held-out cases that label and contain the ROI."""


@dataclass(frozen=True)
class Validated:
    """What one validation found: the history's entries for it, the student's mean Dice if any, warnings.

    Without entries it was left out.
    """

    entries: dict[str, Any]
    mean: float | None
    warnings: list[str]


class _Clock:
    """Seconds that the training and its validations have taken in all processes that it ran in, one after another."""

    def __init__(self) -> None:
        self.earlier, self.started = 0.0, time.monotonic()
        self.validating, self.latest = 0.0, 0.0

    def share_with_another(self) -> float:
        """The share that validations will have taken after one more that takes as long as the latest."""
        whole = self.earlier + time.monotonic() - self.started
        return (self.validating + self.latest) / (whole + self.latest) if self.latest else 0.0

    def add(self, seconds: float) -> None:
        self.validating, self.latest = self.validating + seconds, seconds

    def state_dict(self) -> dict[str, float]:
        whole = self.earlier + time.monotonic() - self.started
        return {"whole": whole, "validating": self.validating, "latest": self.latest}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.earlier, self.started = state["whole"], time.monotonic()
        self.validating, self.latest = state["validating"], state["latest"]


class Validation:
    """Predicts `cases` with `networks` (student, and teacher if there is one) after every `every_epochs` of `plan`.

    Where that would take more than `max_time_share` of the time, some are left out. The networks are the bare ones, not
    wrapped by DistributedDataParallel. With `keep_best`, those of the validation at which the student's mean Dice was
    highest are remembered, and `restore_best` puts them back.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        cases: Sequence[TrainingCase],
        rois: Sequence[str],
        window: SlidingWindow,
        plan: CropPlan,
        *,
        every_epochs: int,
        keep_best: bool,
        max_time_share: float = 1.0,
    ) -> None:
        self.networks, self.rois, self.window, self.plan = networks, tuple(rois), window, plan
        self.every_epochs, self.keep_best = every_epochs, keep_best
        self.max_time_share, self.clock, self.said_left_out = max_time_share, _Clock(), False
        volumes = [open_volume(case.folder) for case in cases]
        # Largest first, so that ranks that take turns have about as much to do (but for windows in air).
        self.volumes = sorted(volumes, key=lambda volume: -window_count(volume.shape, window))
        self.done = 0
        self.best: dict[str, Any] | None = None
        self.watchers: dict[str, RoiLeftBehind | TeacherBehind] = {
            "roi_left_behind": RoiLeftBehind(),
            "teacher_behind": TeacherBehind(),
        }

    def is_due(self, step: int) -> bool:
        """Whether a validation belongs after `step` steps and has not been done."""
        if step <= self.done:
            return False
        return step == self.plan.steps or self._periods(step) > self._periods(step - 1)

    def run(self, step: int, distributed: Distributed, stop: StopRequest) -> Validated | None:
        """Validate the networks as they are after `step` steps; None if a rank was asked to stop meanwhile.

        All ranks call this and get the same.
        """
        if self._takes_too_much(step, distributed):
            self.done = step
            return Validated({}, None, self._notice())
        started = time.monotonic()
        found = self._dice(distributed, stop)
        if found is None:
            return None
        self.done = step
        means = {network: fmean(dice.values()) for network, dice in found.items() if dice}
        mean = means.get(STUDENT)
        if self.keep_best and mean is not None and (self.best is None or mean > self.best["dice"]):
            self.best = {"step": step, "dice": mean, "networks": self._weights()}
        share = step / self.plan.steps
        warnings = [warning for watcher in self.watchers.values() for warning in watcher.note(share, found)]
        seconds = time.monotonic() - started
        self.clock.add(seconds)
        entries: dict[str, Any] = {"seconds_validating": seconds}
        for network, dice in found.items():
            if dice:
                entries |= {_COLUMNS[network]: dice, f"{_COLUMNS[network]}_mean": means[network]}
        return Validated(entries, mean, warnings)

    def restore_best(self) -> int | None:
        """Put back the networks of the best validation; its step, None if there is none or the last ones are kept."""
        if self.best is None:
            return None
        for name, network in self.networks.items():
            network.load_state_dict(self.best["networks"][name])
        return int(self.best["step"])

    def state_dict(self) -> dict[str, Any]:
        watchers = {name: watcher.state_dict() for name, watcher in self.watchers.items()}
        return {"done": self.done, "best": self.best, "watchers": watchers, "clock": self.clock.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done, self.best = state["done"], state["best"]
        for name, watcher in self.watchers.items():
            watcher.load_state_dict(state["watchers"][name])
        # A checkpoint of an earlier version has none.
        if "clock" in state:
            self.clock.load_state_dict(state["clock"])

    def _takes_too_much(self, step: int, distributed: Distributed) -> bool:
        """Whether one more validation would exceed the limit, by rank 0's clock."""
        if self.max_time_share == 1 or self.keep_best or step == self.plan.steps:
            return False
        share: float = distributed.all_gather(self.clock.share_with_another())[0]
        return share > self.max_time_share

    def _notice(self) -> list[str]:
        """That validations are left out, which is said once."""
        if self.said_left_out:
            return []
        self.said_left_out = True
        taken = f"{self.clock.share_with_another():.1%} of the time, more than `validation.max_time_share`"
        return [f"a validation is left out, as others may be: with it they would have taken {taken}"]

    def _periods(self, step: int) -> int:
        return step * self.plan.batch_size // (self.every_epochs * self.plan.epoch_size)

    def _dice(self, distributed: Distributed, stop: StopRequest) -> Dice | None:
        mine: list[tuple[int, str, str, float]] | None
        try:
            mine = [
                (index, network, roi, dice)
                for index in range(distributed.rank, len(self.volumes), distributed.world_size)
                for network in self.networks
                for roi, dice in self._dice_of_case(network, index, stop).items()
            ]
        except _StopAsked:
            mine = None
        of_ranks = distributed.all_gather(mine)
        rows = [row for part in of_ranks if part is not None for row in part]
        if None in of_ranks:
            return None
        return {
            network: {roi: fmean(values) for roi in self.rois if (values := _values(rows, network, roi))}
            for network in self.networks
        }

    def _dice_of_case(self, name: str, index: int, stop: StopRequest) -> dict[str, float]:
        def obey(_: int = 0) -> None:
            if stop.arrived:
                raise _StopAsked

        obey()
        network = self.networks[name]
        trains = network.training
        network.eval()
        try:
            return case_dice(network, self.volumes[index], self.rois, self.window, obey)
        finally:
            network.train(trains)

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """A copy of all networks' weights in the computer's memory."""
        return {
            name: {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
            for name, network in self.networks.items()
        }


class _StopAsked(Exception):  # noqa: N818
    """A signal asked to stop between two windows."""


def _values(rows: Sequence[tuple[int, str, str, float]], network: str, roi: str) -> list[float]:
    return [dice for _, of_network, of_roi, dice in sorted(rows) if (of_network, of_roi) == (network, roi)]
