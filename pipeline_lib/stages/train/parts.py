"""Into how many parts a training divides its batches: how many fit, and which methods allow it."""

from __future__ import annotations

from ...config.methods import Method
from ...config.optimisation import Execution
from ...errors import UserError
from ...measurement.auto_sizes import with_sizes
from ...measurement.sizes import can_be_reckoned, step_of
from ...training.distributed import Distributed
from .settings import Settings


def divisible(method: Method) -> bool:
    """Whether a batch in parts gives the same result as the whole, but for rounding."""
    return not (method.sums_over_batch or method.mixes_samples)


def with_parts(settings: Settings, execution: Execution, distributed: Distributed, title: str) -> Execution:
    """`execution` with the parts and the checkpointing that fit the memory at hand, where they are `auto`.

    A batch that cannot be divided is not reckoned: it stays whole, with the usual checkpointing.
    """
    if not divisible(settings.method):
        # Some of these methods pass several views of a batch at once, which the estimate does not know.
        return execution.model_copy(update={"gradient_accumulation_steps": execution.parts})
    network, batch_size = settings.network, -(-settings.optimisation.batch_size // distributed.world_size)
    rois, datasets = len(settings.rois), len(settings.cases)
    sizes = (
        step_of(network, settings.patches.shape, batch_size, rois, datasets, execution)
        if can_be_reckoned(network)
        else None
    )
    return with_sizes(execution, sizes, distributed, title=title)


def check_samples_together(method: Method, accumulation_steps: int, distributed: Distributed) -> None:
    """UserError if the loss depends on which samples are computed together, and these are not the whole batch."""
    if divisible(method):
        return
    where, which = (
        ("dice", "is batch") if method.sums_over_batch else ("method", f"is {method.kind}, which mixes samples")
    )
    if distributed.world_size > 1:
        wrong = f"{which}, so its result would depend on how many processes share the batch"
        raise UserError(where, wrong, "train in one process, or choose another")
    if accumulation_steps > 1:
        wrong = f"{which}, so its result would depend on `execution.gradient_accumulation_steps`"
        raise UserError(where, wrong, "set that to 1, or choose another")
