"""What the training loop asks of a task: networks that learn, losses of a batch, and what a checkpoint must hold."""

from __future__ import annotations

from collections.abc import Mapping
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
    """One kind of training.

    `networks` are those that learn, by name; `names` are those of the K columns of all counts; `terms` are the terms of
    the loss, with their titles in the figure of the losses.
    """

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def terms(self) -> Mapping[str, str]: ...

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`.

        `networks` are those of the task, possibly wrapped by DistributedDataParallel or compiled; `progress` is the
        share of the training that is done (0…1).
        """

    def after_update(self) -> None:
        """Called after each step of the optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs besides the parameters of `networks`."""

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Stateless:
    """The hooks of a task that keeps nothing besides its networks: there is nothing to update or to resume."""

    def after_update(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
