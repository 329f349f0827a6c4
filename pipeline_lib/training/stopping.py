"""A graceful stop: a signal sets a flag, and training stops at the end of its step."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 128 + signal.SIGTERM
"""Exit code of a training that was asked to stop: not 0, so that its outputs do not count as made."""

STOPPED_AS_REQUESTED = "stopped as requested"
"""In the last line of such a training's log."""


class StopRequest:
    """Whether SIGTERM or SIGINT has arrived. SLURM sends SIGTERM twice, so the handler only sets a flag."""

    def __init__(self) -> None:
        self._arrival: float | None = None

    @property
    def arrived(self) -> bool:
        return self._arrival is not None

    def arrived_before(self, seconds: float) -> bool:
        """Whether it arrived at least `seconds` ago."""
        return self._arrival is not None and time.monotonic() - self._arrival >= seconds

    def note(self, number: int, frame: FrameType | None) -> None:
        self._arrival = self._arrival or time.monotonic()


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
