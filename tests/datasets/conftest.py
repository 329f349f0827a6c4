"""What the tests of downloads share: a server on loopback, and no patience."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline_lib.datasets.download import Patience
from tests.support.faulty_server import FaultyServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = FaultyServer()
    yield running
    running.close()


@pytest.fixture
def patience() -> Patience:
    return Patience(attempts=4, first_pause=0.005, longest_pause=0.01, longest_wait=0.5, stall=0.3)
