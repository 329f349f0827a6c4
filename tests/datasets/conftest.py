"""What the tests of downloads share: a server on loopback, and no retry_policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline_lib.datasets.download import RetryPolicy
from tests.support.faulty_server import FaultyServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = FaultyServer()
    yield running
    running.close()


@pytest.fixture
def retry_policy() -> RetryPolicy:
    return RetryPolicy(attempts=4, first_pause=0.005, longest_pause=0.01, longest_wait=0.5, stall=1.0)
