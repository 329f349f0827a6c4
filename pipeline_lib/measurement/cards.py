"""GPUs by name: memory and rates, by their data sheets; and what is at hand, a GPU or a computer without one."""

from __future__ import annotations

import math
import os
from typing import Literal, NamedTuple

import torch

from ..machine import available_memory
from .counting import Rates

UNKNOWN_RATES = Rates(math.inf, math.inf)
"""With them every bound of a time is 0."""

_GIB = 2**30
_CONTEXT_BYTES = 0.75 * _GIB
_KEPT_FREE = 0.05
_SHARE_OF_A_CPUS = 0.5
"""A step of a small network took twice its estimate (docs/performance.md): libraries keep buffers."""
_FASTER_FORMS = {"Ti", "SUPER", "NVL"}


class Card(NamedTuple):
    """`gib` of memory as sold; `rates` of dense half-precision products with float32 sums, and of memory.

    `has_bfloat16` is whether its tensor cores multiply it (Ampere and later). A computer without a GPU is a card of the
    device type `cpu`, with the main memory that a process may take.
    """

    gib: float
    rates: Rates
    has_bfloat16: bool = True
    device: Literal["cpu", "cuda"] = "cuda"

    @property
    def usable_bytes(self) -> float:
        """Bytes that a step may take by estimate.

        Kept free on a GPU: 0.75 GiB for CUDA's context and libraries, which took 0.71 on an H100; and 5 %: its 80 GiB
        as sold were 79.2, and the allocator reserved 1 to 6 % more than it gave out, 1 % where memory was short
        (docs/performance.md). The estimate itself was 0 to 5 % too high there. Elsewhere: half.
        """
        if self.device == "cpu":
            return self.gib * _GIB * _SHARE_OF_A_CPUS
        return (self.gib * _GIB - _CONTEXT_BYTES) * (1 - _KEPT_FREE)


CARDS = {
    "RTX 2080 Ti": Card(11, Rates(53.8e12, 616e9), has_bfloat16=False),
    "V100 16GB": Card(16, Rates(125e12, 900e9), has_bfloat16=False),
    "RTX 3090": Card(24, Rates(71e12, 936e9)),
    "RTX 4090": Card(24, Rates(165e12, 1008e9)),
    "A100 40GB": Card(40, Rates(312e12, 1555e9)),
    "A100 80GB": Card(80, Rates(312e12, 2039e9)),
    "H100": Card(80, Rates(989e12, 3350e9)),
    "H200": Card(141, Rates(989e12, 4800e9)),
}
"""The SXM forms of V100, A100, H100 and H200."""


def card_of_memory(gib: float) -> tuple[str, Card]:
    """The slowest card with at least `gib` of memory, with `gib` in the place of its own; the largest if none has."""
    enough = {name: card for name, card in CARDS.items() if card.gib >= gib}
    if enough:
        least = min(card.gib for card in enough.values())
        name = min((name for name in enough if enough[name].gib == least), key=lambda each: enough[each].rates.moved)
    else:
        name = max(CARDS, key=lambda each: CARDS[each].gib)
    return name, CARDS[name]._replace(gib=gib)


def card_named(name: str, gib: float) -> Card | None:
    """The card that CUDA calls `name`, with the memory that it reports; None if its rates are not known here."""
    words = set(name.replace("-", " ").split())
    for known, card in CARDS.items():
        if words >= set(known.split()) and not (words - set(known.split())) & _FASTER_FORMS:
            return card._replace(gib=gib)
    return None


def card_at_hand(device: torch.device) -> tuple[str, Card]:
    """What this process computes on: its name, and a card with the memory that nobody has taken.

    The processes of one training on this machine share the main memory. Where the rates are not known, the bound of a
    time is 0.
    """
    if device.type == "cpu":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return "this computer", Card(available_memory() / processes / _GIB, UNKNOWN_RATES, device="cpu")
    found = torch.cuda.get_device_properties(device)
    gib = torch.cuda.mem_get_info(device)[0] / _GIB
    return found.name, card_named(found.name, gib) or Card(gib, UNKNOWN_RATES, found.major >= 8)
