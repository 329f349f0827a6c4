"""Which parts of the batch and which checkpointing fit a card, by estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

from ..config.optimisation import Checkpointing
from .cards import Card
from .estimate import DeviceType, Estimate, estimate
from .sizes import Shape, StepSizes

_AS_FAST = 1.05
"""Bounds that differ by less say nothing, and fewer parts start fewer kernels, whose time is not in the bound."""


class Fit(NamedTuple):
    """What fits: how many parts, and what is computed again; by estimate the bytes and least seconds of each step."""

    parts: int
    checkpointing: Checkpointing
    peaks: tuple[float, ...]
    seconds: tuple[float, ...]

    def applied(self, sizes: StepSizes) -> StepSizes:
        """`sizes` with these parts and this checkpointing."""
        return _with(sizes, self.parts, self.checkpointing)


def equal_parts(batch_size: int) -> tuple[int, ...]:
    """Into how many parts a batch can be divided evenly."""
    return tuple(count for count in range(1, batch_size + 1) if batch_size % count == 0)


KINDS: tuple[Checkpointing, ...] = get_args(Checkpointing)
"""From the one that computes least and keeps most to the one that keeps least."""


def fits(
    steps: Sequence[StepSizes], card: Card, allowed: Sequence[int] = (), kinds: Sequence[Checkpointing] = KINDS
) -> Iterator[Fit]:
    """Every way to divide the batch into equal parts, and of checkpointing, in which each of the `steps` fits the card.

    `allowed` are the numbers of parts that may be (empty: all), `kinds` the ways of checkpointing. The steps have the
    same batch. Memory and time grow by the same for each sample of a part, so that two estimates tell the others;
    gradients that wait for the next part come on top.
    """
    batch_size = steps[0].batch_size
    for kind in kinds:
        pairs = [(_estimated(sizes, 1, kind, card.device), _estimated(sizes, 2, kind, card.device)) for sizes in steps]
        for parts in allowed or equal_parts(batch_size):
            more = batch_size // parts - 1
            peaks = tuple(
                one.peak + more * (two.peak - one.peak) + (one.gradients if parts > 1 else 0) for one, two in pairs
            )
            if max(peaks) <= card.usable_bytes:
                bounds = [(one.seconds(card.rates), two.seconds(card.rates)) for one, two in pairs]
                yield Fit(parts, kind, peaks, tuple(parts * (one + more * (two - one)) for one, two in bounds))


def advised(
    steps: Sequence[StepSizes], card: Card, allowed: Sequence[int] = (), kinds: Sequence[Checkpointing] = KINDS
) -> Fit | None:
    """Of the `fits` that with the fewest parts among those about as fast as the fastest; None if nothing fits.

    On a CPU parts cost no time, and computing again does: there it is the first.
    """
    found = []
    for fit in fits(steps, card, allowed, kinds):
        # Nothing else is faster than the whole batch at once with nothing computed again.
        if card.device == "cpu" or (fit.parts, fit.checkpointing) == (1, "none"):
            return fit
        found.append(fit)
    if not found:
        return None
    least = min(sum(fit.seconds) for fit in found)
    fast = [fit for fit in found if sum(fit.seconds) <= _AS_FAST * least]
    return min(fast, key=lambda fit: (fit.parts, sum(fit.seconds)))


def largest_patch(
    steps: Sequence[StepSizes], card: Card, volume: Shape | None, allowed: Sequence[int] = ()
) -> Shape | None:
    """The patch D H W of the steps, made smaller until the smallest part fits with everything computed again.

    The side that is longest beside the `volume` D H W (beside the other sides where none is known) gives way, by as
    much as the networks can bear. None if nothing is left to give.
    """
    multiple = max(sizes.network.patch_multiple for sizes in steps)
    patch = list(steps[0].patch)
    parts = max(allowed or equal_parts(steps[0].batch_size))
    while not all(_fits_alone(replace(sizes, patch=_shape(patch)), card, parts) for sizes in steps):
        # A bottleneck of a single voxel has no statistics.
        sides = [side for side in range(3) if patch[side] > multiple and sum(patch) > 4 * multiple]
        if not sides:
            return None
        longest = max(sides, key=lambda side: patch[side] / (volume[side] if volume else 1))
        patch[longest] -= multiple
    return _shape(patch)


def _fits_alone(sizes: StepSizes, card: Card, parts: int) -> bool:
    alone = _estimated(sizes, sizes.batch_size // parts, "all", card.device)
    waiting = alone.gradients if parts > 1 else 0
    return alone.peak + waiting <= card.usable_bytes


def _shape(sides: Sequence[int]) -> Shape:
    D, H, W = sides
    return D, H, W


def _estimated(sizes: StepSizes, samples: int, kind: Checkpointing, device: DeviceType) -> Estimate:
    return estimate("ours", _with(replace(sizes, batch_size=samples), 1, kind), device)


def _with(sizes: StepSizes, parts: int, kind: Checkpointing) -> StepSizes:
    chosen = {"gradient_accumulation_steps": parts, "gradient_checkpointing": kind}
    return replace(sizes, execution=sizes.execution.model_copy(update=chosen))
