"""What the training loop asks of a task: losses of a batch, and what else must be kept in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from ..data.batches import Batch


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of a batch.

    `total` B is minimised, `terms` (B each) are its parts. `counts` (bool or float, B K each) go into the history as
    means over the batch; "present" and "found" among them are watched (training.silent_rois).
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, Tensor] = field(default_factory=dict)

    def detached(self) -> Losses:
        """The same numbers without their graph."""
        terms = {name: term.detach() for name, term in self.terms.items()}
        return Losses(self.total.detach(), terms, self.counts)


class Task(Protocol):
    """One kind of training. `student` is the network that learns; `names` are those of the K columns of all counts."""

    student: nn.Module
    names: tuple[str, ...]

    def losses(self, network: nn.Module, batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; `network` is the student, maybe wrapped; `progress` is the share of the training done."""

    def after_update(self) -> None:
        """Called after each step of the optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """What the task must find again when it is resumed, besides the student."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
