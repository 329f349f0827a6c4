"""The device of a stage, and how PyTorch's allocator is set up for a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline_lib import device
from pipeline_lib.device import compute_device

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> dict[str, str]:
    """Says nothing of the allocator, and is no longer there after the test."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    monkeypatch.setattr(device.os, "environ", kept)
    return kept


def gpu(monkeypatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize("asked", ["auto", "cuda"])
def test_what_computes_on_a_gpu_gets_segments_that_grow(monkeypatch, environment, asked):
    gpu(monkeypatch, 1)
    assert compute_device(asked) == torch.device("cuda", 0)
    assert environment["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"


@pytest.mark.parametrize("name", NAMES)
def test_what_the_environment_says_of_the_allocator_stands(monkeypatch, environment, name):
    gpu(monkeypatch, 1)
    environment[name] = "max_split_size_mb:512"
    compute_device("auto")
    assert {each: environment[each] for each in NAMES if each in environment} == {name: "max_split_size_mb:512"}


def test_without_a_gpu_nothing_is_set(monkeypatch, environment):
    gpu(monkeypatch, 0)
    assert compute_device("auto") == torch.device("cpu")
    assert not set(NAMES) & set(environment)
