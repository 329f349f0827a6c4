"""Training steps with their time and memory, beside the estimate and the plain composition; a training that resumes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from ..config.augmentation import Augmentation
from ..config.optimisation import Execution
from ..data.crops import CropPlan
from ..data.reading import CropReader, Region, regions
from ..measurement.advice import advised
from ..measurement.cards import Card, card_at_hand
from ..measurement.cases import POOL, write_cases
from ..measurement.estimate import estimate
from ..measurement.sizes import PAPER, SMALL, StepSizes
from ..measurement.steps import our_stepper
from ..measurement.timing import Measured, Timing, measured
from ..networks.precision import autocast_type
from ..training.checkpoints import Checkpoints
from ..training.distributed import init_distributed
from .machine import patience
from .rows import Row, absent, failed, judged

_GIB = 2**30
_MEMORY_WITHIN = {"cuda": (0.8, 1.2), "cpu": (0.2, 3.0)}
"""Measured over estimated: on an H100 0.95 to 1.0 (docs/performance.md). On a CPU it is the process's memory, with what
the C library keeps, so little is said."""
_KEPT_BY_LIBRARIES = {"cuda": _GIB / 8, "cpu": 0}
"""Bytes that may come on top: cuBLAS has a workspace per thread. A small step took 0.23 GiB of an H100, not 0.14."""
_SECONDS = {"cuda": "s", "cpu": "processor s"}
_MOST_SECONDS = 120.0
_GPU_RESUMES_WITHIN = 1e-3


def check_steps(device: torch.device) -> Iterator[Row]:
    """A step of a small network, and on a GPU one of the paper's, as many samples at once as fit by estimate."""
    small = replace(SMALL, execution=Execution(device=device.type))
    yield from _step("small step", small, device)
    if device.type == "cpu":
        yield absent("the paper's step", "needs a GPU")
        return
    _, card = card_at_hand(device)
    paper = replace(PAPER, execution=Execution(device=device.type))
    fit = advised([paper], card)
    if fit is None:
        yield absent("the paper's step", f"does not fit {card.gib:.0f} GiB by estimate")
        return
    said = f"{fit.parts} parts, checkpointing {fit.checkpointing}"
    yield from _step(f"the paper's step in {said}", fit.applied(paper), device)


def _step(title: str, sizes: StepSizes, device: torch.device) -> Iterator[Row]:
    _, card = card_at_hand(device)
    timing = Timing(device.type, steps=3, warm_up=2)
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder), sizes.patch, sizes.rois)
        try:
            ours = measured("ours", sizes, cases, timing, _MOST_SECONDS * patience())
            reckoned = estimate("ours", sizes, device.type)  # type: ignore[arg-type]
            yield judged_step(title, ours, reckoned.peak, reckoned.seconds(card.rates), device.type)
        except Exception as error:
            yield failed(title, error)
            return
        what = f"{title}, plain composition"
        try:
            alike = _plain_sizes(sizes, card, device)
            if alike is None:
                yield absent(what, "one sample does not fit by estimate")
                return
            theirs = measured("plain", alike, cases, timing, _MOST_SECONDS * patience())
            yield compared(what, ours, sizes.batch_size, theirs, alike.batch_size, device.type)
        except Exception as error:
            yield failed(what, error)


def judged_step(title: str, ours: Measured | None, estimated: float, bound: float, device_type: str) -> Row:
    """Whether the step was taken, within reach of its `estimated` bytes, and not in less than the `bound`, seconds."""
    if ours is None:
        return judged(title, False, f"out of memory, estimated {estimated / _GIB:.2f} GiB")
    taken = ours.peak - ours.before
    ratio, (low, high) = taken / estimated, _MEMORY_WITHIN[device_type]
    said = f" (bound {bound:.3f})" if bound else ""
    found = (
        f"{ours.seconds:.3f} {_SECONDS[device_type]}{said}, {taken / _GIB:.2f} GiB measured and "
        f"{estimated / _GIB:.2f} estimated ({ratio:.2f} times as much), loss {ours.loss:.3f}"
    )
    if not math.isfinite(ours.loss):
        return judged(title, False, f"{found}: the loss is not finite")
    if not low * estimated <= taken <= high * estimated + _KEPT_BY_LIBRARIES[device_type]:
        return judged(title, False, f"{found}: the estimate of the memory is off")
    if ours.seconds < bound:
        return judged(title, False, f"{found}: faster than the bound, which is therefore wrong")
    return judged(title, True, found)


def compared(
    what: str, ours: Measured | None, batch: int, theirs: Measured | None, their_batch: int, device_type: str
) -> Row:
    """The plain composition's figures, per sample where the batches differ; not finite or no memory is a failure."""
    if theirs is None or ours is None:
        return judged(what, False, "out of memory")
    ratio = (theirs.seconds / their_batch) / (ours.seconds / batch)
    found = (
        f"batch {their_batch}: {theirs.seconds:.3f} {_SECONDS[device_type]}, "
        f"{(theirs.peak - theirs.before) / _GIB:.2f} GiB; "
        f"{ratio:.2f} times as long per sample, loss {theirs.loss:.3f}"
    )
    return judged(what, math.isfinite(theirs.loss), found)


def _plain_sizes(sizes: StepSizes, card: Card, device: torch.device) -> StepSizes | None:
    """The same step with the largest part of the batch that the plain composition can have, at once."""
    if device.type == "cpu":
        return sizes
    for batch in (size for size in range(sizes.part_size, 0, -1) if sizes.batch_size % size == 0):
        alike = replace(sizes, batch_size=batch, execution=Execution(device=device.type))
        if estimate("plain", alike, "cuda").peak <= card.usable_bytes:
            return alike
    return None


def check_resuming(device: torch.device) -> Iterator[Row]:
    """Two steps, a checkpoint, and a third; then the third again from the checkpoint: the same weights."""
    title = "checkpoint written and resumed"
    try:
        off = resumed_difference(device)
        precision = str(autocast_type("auto", device)).removeprefix("torch.")
        limit = 0.0 if device.type == "cpu" else _GPU_RESUMES_WITHIN
        same = "the same bits" if off == 0 else f"weights differ by {off:.1e} of the largest"
        yield judged(title, off <= limit, f"{same} after the next step, {precision}")
    except Exception as error:
        yield failed(title, error)


def resumed_difference(device: torch.device) -> float:
    """By how much the weights of a resumed training are off, as a share of the largest weight of their kind."""
    sizes = replace(SMALL, execution=Execution(device=device.type))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, init_distributed(sizes.execution) as distributed:
        crops = _crops(Path(folder), sizes)
        checkpoints = Checkpoints(Path(folder) / "checkpoints")
        first = our_stepper(sizes, distributed)
        for number in (0, 1):
            first.train_step(number, crops[number], stop_asked=False)
        if not checkpoints.save(2, first.state_dict()):
            raise OSError("the checkpoint could not be written")
        first.train_step(2, crops[2], stop_asked=False)
        again = our_stepper(sizes, distributed)
        state = checkpoints.newest()
        if state is None:
            raise OSError("the checkpoint could not be read")
        again.load_state_dict(state)
        again.train_step(2, crops[2], stop_asked=False)
        pairs = zip(first.parameters, again.parameters, strict=True)
        return max(((one - other).abs().max() / one.abs().max()).nan_to_num(1.0).item() for one, other in pairs)


def _crops(folder: Path, sizes: StepSizes) -> list[list[Region]]:
    """The crops of three steps."""
    cases = write_cases(folder, sizes.patch, sizes.rois)
    plan = CropPlan(len(cases), POOL, epochs=3, batch_size=sizes.batch_size, seed=0)
    reader = CropReader(cases, plan, sizes.patch, Augmentation().weak)
    stream = list(islice(regions(reader, 0, num_workers=0, pinned=False), 3 * sizes.batch_size))
    return [stream[at : at + sizes.batch_size] for at in range(0, len(stream), sizes.batch_size)]
