"""One training step: forward and backward passes of a global batch, then the optimiser, unless a number is not finite.

Each rank works on its share of the batch, in parts if memory is short. Losses are summed over samples and divided by
the global batch size, so ranks and parts change nothing but rounding. For this reason a batch that does not fit may be
divided further on the way.
"""

from __future__ import annotations

import contextlib
import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..config.optimisation import Execution, Optimisation
from ..data.batches import ViewMaker
from ..data.reading import Region
from ..device import out_of_memory
from ..errors import UserError
from ..networks.precision import autocast_type
from ..progress import say
from .distributed import Distributed
from .schedule import learning_rate
from .task import Losses, Task

_MIN_SCALE = 1.0
"""Loss scale of float16 at or below which an overflow is the training's fault, no longer the scale's."""


@dataclass(frozen=True)
class StepReport:
    """Means over the global batch, named `group/name`; whether the weights moved; whether a rank was asked to stop."""

    values: dict[str, float]
    applied: bool
    stop: bool


class Stepper:
    """Takes steps; holds what they change: the networks, their optimiser, the loss scaler, the count of skipped steps.

    `steps` is the length of the whole training, `title` what messages call it. `divisible` is whether a rank may divide
    its share of a batch into more parts when memory runs out; without it, the error is the caller's.
    """

    def __init__(
        self,
        task: Task,
        view_maker: ViewMaker,
        optimisation: Optimisation,
        execution: Execution,
        distributed: Distributed,
        *,
        steps: int,
        title: str,
        divisible: bool = False,
    ) -> None:
        self.divisible, self.parts = divisible, execution.parts
        self.task, self.view_maker, self.optimisation = task, view_maker, optimisation
        self.execution, self.distributed, self.steps, self.title = execution, distributed, steps, title
        self.skipped = 0
        self.autocast_type = autocast_type(execution.precision, distributed.device)
        self.parameters = [
            parameter
            for network in task.networks.values()
            for parameter in network.parameters()
            if parameter.requires_grad
        ]
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=optimisation.learning_rate, weight_decay=optimisation.weight_decay, fused=True
        )
        half = self.autocast_type == torch.float16 and distributed.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(distributed.device.type, enabled=half)
        self.wrapped = {name: distributed.wrap(network) for name, network in task.networks.items()}
        self.networks: dict[str, Any] = {
            name: torch.compile(network) if execution.compile else network for name, network in self.wrapped.items()
        }

    def train_step(self, step: int, regions: list[Region], stop_asked: bool) -> StepReport:
        """Step number `step` with this rank's `regions`; every rank gets the same report."""
        self._set_learning_rate(step)
        losses = self._gradients(step, regions)
        # The norm and its limit are those of the gradient itself, so the loss scale comes off first.
        self.scaler.unscale_(self.optimiser)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        report = self._reduce(losses, norm, stop_asked)
        if report.applied:
            self._update(norm)
        else:
            self._skip(step, regions, losses)
        self.optimiser.zero_grad(set_to_none=True)
        return report

    def _set_learning_rate(self, step: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.optimisation.epochs * step / self.steps, self.optimisation)

    def agree_on_parts(self, step: int, regions: list[Region]) -> None:
        """Divide the batch until the passes of step `step` fit the memory of every rank; they change nothing else.

        All ranks call this with their `regions` before the first step. In a step, a rank without memory would leave the
        others waiting for its gradients. MemoryError, said by rank 0 alone, if there is nothing left to divide.
        """
        while True:
            found = self.distributed.all_gather((self._fits(step, regions), len(regions)))
            if all(fits for fits, _ in found):
                return
            most = max(count for _, count in found)
            if self.parts >= most:
                raise MemoryError if self.distributed.is_main else SystemExit(UserError.exit_code)
            self._divide(step, most)

    def _fits(self, step: int, regions: list[Region]) -> bool:
        """Whether forward and backward passes of this rank's `regions` fit, beside the optimiser's moments."""
        moments: list[Tensor] = []
        try:
            if not self.optimiser.state:
                moments += [torch.empty_like(parameter) for parameter in self.parameters for _ in range(2)]
            # The bare networks, whose gradients no rank waits for.
            self._passes(step, regions, self.task.networks, exchange=False)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            return False
        finally:
            self.optimiser.zero_grad(set_to_none=True)
        return True

    def _gradients(self, step: int, regions: list[Region]) -> list[Losses]:
        """The losses of each part; a process on its own divides its batch further if memory runs out."""
        while True:
            try:
                return self._passes(step, regions, self.networks, exchange=True)
            except (MemoryError, RuntimeError) as error:
                may_divide = self.divisible and self.distributed.world_size == 1 and self.parts < len(regions)
                if not (may_divide and out_of_memory(error)):
                    raise
            # The error is gone by now, and with it the tensors that its traceback held.
            self._divide(step, len(regions))

    def _divide(self, step: int, samples: int) -> None:
        """Halve the parts of a batch of `samples`, and begin it anew."""
        before = self.parts
        half = math.ceil(math.ceil(samples / before) / 2)
        self.parts = math.ceil(samples / half)
        self.optimiser.zero_grad(set_to_none=True)
        gc.collect()
        if self.distributed.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.distributed.is_main:
            say(
                f"warning: {self.title}, step {step}: out of memory with gradient_accumulation_steps {before}; "
                f"{self.parts} from here on, which changes results by rounding only"
            )

    def _passes(self, step: int, regions: list[Region], networks: Mapping[str, Any], *, exchange: bool) -> list[Losses]:
        """Forward and backward passes of all parts; with `exchange`, ranks exchange gradients in the last one."""
        parts = _in_parts(regions, self.parts)
        return [
            self._forward_and_backward(part, networks, step / self.steps, exchange and index == len(parts) - 1)
            for index, part in enumerate(parts)
        ]

    def _forward_and_backward(
        self, part: list[Region], networks: Mapping[str, Any], progress: float, last: bool
    ) -> Losses:
        """Losses of the part's samples, without graph; adds their share of the batch's gradient to the networks'."""
        batch = self.view_maker.batch(part)
        # Ranks exchange gradients in the backward pass of the last part only.
        exchange = self.distributed.world_size == 1 or last
        with contextlib.ExitStack() as unsynchronised:
            for network in () if exchange else self.wrapped.values():
                unsynchronised.enter_context(network.no_sync())  # type: ignore[operator]
            with torch.autocast(
                self.distributed.device.type, self.autocast_type, enabled=self.autocast_type != torch.float32
            ):
                losses = self.task.losses(networks, batch, progress)
            # DistributedDataParallel averages over the ranks; the mean over the global batch is wanted.
            share = self.distributed.world_size / self.optimisation.batch_size
            self.scaler.scale(losses.total.sum() * share).backward()
        return losses.detached()

    def _reduce(self, losses: list[Losses], norm: Tensor, stop_asked: bool) -> StepReport:
        """Sum over all parts and ranks, so that all ranks update, skip and stop together."""
        names = [f"loss/{name}" for name in ("total", *losses[0].terms)]
        names += [f"{group}/{name}" for group in losses[0].counts for name in self.task.names]
        columns = torch.stack([_column_sums(part) for part in losses]).sum(0)
        finite = norm.isfinite() & columns[: 1 + len(losses[0].terms)].isfinite().all()
        flags = torch.stack([~finite, torch.tensor(stop_asked, device=norm.device)]).double()
        *sums, broken, stops = self.distributed.all_reduce(torch.cat([columns, flags])).tolist()
        values = {name: total / self.optimisation.batch_size for name, total in zip(names, sums, strict=True)}
        return StepReport(values, applied=broken == 0, stop=stops > 0)

    def _update(self, norm: Tensor) -> None:
        if self.optimisation.max_grad_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.optimisation.max_grad_norm, norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.task.after_update()

    def _skip(self, step: int, regions: list[Region], losses: list[Losses]) -> None:
        """Leave the weights as they are; UserError if that has happened too often."""
        totals = torch.cat([part.total for part in losses]).tolist()
        mine = [region.name for region, total in zip(regions, totals, strict=True) if not math.isfinite(total)]
        culprits = [name for names in self.distributed.all_gather(mine) for name in names]
        scale_too_high = self.scaler.is_enabled() and self.scaler.get_scale() > _MIN_SCALE
        self.scaler.update()
        if scale_too_high and not culprits:
            return
        self.skipped += 1
        everyone = [
            name for names in self.distributed.all_gather([region.name for region in regions]) for name in names
        ]
        what = f"loss in {'; '.join(culprits)}" if culprits else f"gradient from {'; '.join(everyone)}"
        if self.skipped > self.execution.nonfinite_limit:
            if not self.distributed.is_main:
                raise SystemExit(UserError.exit_code)  # rank 0 says it for all
            raise UserError(
                f"{self.title}, step {step}",
                f"non-finite {what}, after {self.skipped - 1} steps that were skipped for the same reason",
                "look at these crops, lower `learning_rate`, or set `max_grad_norm`",
            )
        if self.distributed.is_main:
            say(f"warning: {self.title}, step {step}: skipped, non-finite {what}")

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "parts": {"set": self.execution.parts, "used": self.parts},
            "networks": {name: network.state_dict() for name, network in self.task.networks.items()},
            "task": self.task.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped = state["skipped"]
        # A batch that was divided for want of memory stays so, unless the config has another number now.
        if "parts" in state and state["parts"]["set"] == self.execution.parts:
            self.parts = state["parts"]["used"]
        for name, network in self.task.networks.items():
            network.load_state_dict(state["networks"][name])
        self.task.load_state_dict(state["task"])
        self.optimiser.load_state_dict(state["optimiser"])
        self._lay_out_moments()
        # A training in another precision had no scale to keep.
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _lay_out_moments(self) -> None:
        """Give the optimiser's moments the memory order of their parameters, which the fused AdamW relies on.

        The orders differ where a training resumes with another `memory_format`.
        """
        for parameter, moments in self.optimiser.state.items():
            for name, value in moments.items():
                if value.shape == parameter.shape:
                    moments[name] = torch.empty_like(parameter).copy_(value)


def _in_parts(regions: list[Region], parts: int) -> list[list[Region]]:
    """`regions` in at most `parts` runs of nearly equal length, none empty."""
    parts = min(parts, len(regions))
    ends = [len(regions) * index // parts for index in range(parts + 1)]
    return [regions[first:end] for first, end in pairwise(ends)]


def _column_sums(losses: Losses) -> Tensor:
    """Sums over samples of the total, the terms and the counts, float64, one after the other."""
    sums = [loss.double().sum().reshape(1) for loss in (losses.total, *losses.terms.values())]
    return torch.cat([*sums, *(count.double().sum(0) for count in losses.counts.values())])
