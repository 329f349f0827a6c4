"""A polite request to stop: a signal raises a flag, and training stops at the end of its step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 128 + signal.SIGTERM
"""Exit code of a training that was asked to stop: not 0, so that its outputs do not count as made."""


class StopRequest:
    """Whether SIGTERM or SIGINT has arrived. SLURM sends SIGTERM twice, so the handler does nothing but note it."""

    def __init__(self) -> None:
        self.arrived = False

    def note(self, number: int, frame: FrameType | None) -> None:
        self.arrived = True


@contextmanager
def listening_for_stop() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of dying of them, for as long as the block lasts."""
    request = StopRequest()
    before = {number: signal.signal(number, request.note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
