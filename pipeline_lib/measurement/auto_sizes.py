"""What `gradient_accumulation_steps: auto` means on the memory at hand: chosen before a training, said in one line."""

from __future__ import annotations

from typing import NamedTuple

from ..config.optimisation import Checkpointing, Execution
from ..networks.recomputing import checkpointing
from ..networks.swin_unetr.settings import SwinUnetr
from ..progress import say
from ..training.distributed import Distributed
from .cards import Card, card_at_hand
from .sizes import StepSizes

_GIB = 2**30
_OF_MAPS, _OF_ROIS, _OF_WEIGHTS = 15_000.0, 200.0, 2.5e9
"""More bytes than a step takes anywhere: for a voxel of a patch, for a voxel and ROI, and for all weights with what the
optimiser and the teacher add. The first and the last are those of the published width."""
_PUBLISHED_WIDTH, _LEAST_SHARE = 48, 0.25


class _Choice(NamedTuple):
    parts: int
    checkpointing: Checkpointing
    reason: str


def with_sizes(execution: Execution, sizes: StepSizes | None, distributed: Distributed, *, title: str) -> Execution:
    """`execution` with a number in the place of `auto`, and the fastest `gradient_checkpointing` with it.

    All ranks call this and take the same, by the least memory that one of them has; rank 0 reckons, for up to a minute
    at the paper's size, and says what is taken and why. `sizes` is the step of one rank, None if it cannot be reckoned.
    What is chosen changes results by rounding only.
    """
    if execution.gradient_accumulation_steps != "auto":
        return execution
    name, card = card_at_hand(distributed.device)
    gib = min(distributed.all_gather(card.gib))
    choice = None
    if distributed.is_main:
        choice = _chosen(execution, sizes, card._replace(gib=gib), distributed)
        said = f"gradient_accumulation_steps {choice.parts}, gradient_checkpointing {choice.checkpointing}"
        say(f"{title}: takes {said}: {choice.reason}, and {name} has {gib:.1f} GiB free")
    parts, kind, _ = distributed.all_gather(choice)[0]
    return execution.model_copy(update={"gradient_accumulation_steps": parts, "gradient_checkpointing": kind})


def _chosen(execution: Execution, sizes: StepSizes | None, card: Card, distributed: Distributed) -> _Choice:
    given = execution.gradient_checkpointing
    if sizes is None:
        return _Choice(1, checkpointing(execution, distributed.device), "a step of this network cannot be reckoned")
    most = _most_bytes(sizes)
    if most <= card.usable_bytes:
        return _Choice(1, "none" if given == "auto" else given, f"a step needs less than {most / _GIB:.1f} GiB")
    # Fake tensors take seconds to import and to compute with: only where they are needed.
    from .advice import KINDS, advised, equal_parts

    allowed = equal_parts(sizes.batch_size)
    kinds = KINDS if given == "auto" else (given,)
    fit = advised([sizes], card, allowed, kinds)
    if fit is None:
        return _Choice(max(allowed), kinds[-1], "by estimate no step fits, so the smallest is tried")
    return _Choice(fit.parts, fit.checkpointing, f"by estimate a step needs {max(fit.peaks) / _GIB:.1f} GiB")


def _most_bytes(sizes: StepSizes) -> float:
    """More than a step takes, known without an estimate: maps grow with a network's width, weights with its square."""
    network, (D, H, W) = sizes.network, sizes.patch
    width = network.feature_size if isinstance(network, SwinUnetr) else network.width  # type: ignore[union-attr]
    share = max(width / _PUBLISHED_WIDTH, _LEAST_SHARE)
    return D * H * W * sizes.batch_size * (_OF_MAPS * share + _OF_ROIS * sizes.rois) + _OF_WEIGHTS * share**2
