"""Settings of every test: no deadlines, since shared machines are noisy, and the same examples in every run."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator

# Read when torch is imported: a sum over two threads rounds otherwise than one over one, and trainings are compared
# bit by bit with such that ran in processes of their own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings

if not torch.cuda.is_available():
    # Read when Triton is imported: its kernels are then computed in NumPy, one program after the other.
    os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = [
    "tests.support.grid_fixtures",
    "tests.support.network_fixtures",
    "tests.support.training_fixtures",
]

settings.register_profile("lacuna", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("lacuna")


_FIRST = ("test_graph.py", "test_downloads.py", "test_calls.py", "test_trained_models.py")
_LAST = ("test_selftest.py", "test_estimate.py", "test_plan.py")


def pytest_collection_modifyitems(items) -> None:
    """The tests that run whole pipelines first, so that processes that share the files out end together.

    Of two processes each is given two files at first. The one with `test_graph.py` makes the run that
    `test_trained_models.py` needs too, while the other is busy with its downloads.

    Last are those that compute on fake tensors of a GPU: after that, PyTorch refuses backward passes in processes that
    are forked from this one, as many tests need.
    """
    order = {name: place for place, name in enumerate((*_FIRST, "", *_LAST))}
    items.sort(key=lambda item: order.get(item.path.name, order[""]))


_TEARDOWN_SECONDS = 300


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """End this process when a teardown hangs: the timers of pytest-timeout and of pytest end with a test that fails."""
    # pytest's own copy of stderr: its capture keeps what is written to the other one until the test ends.
    terminal = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(_TEARDOWN_SECONDS, exit=True, file=terminal)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
