"""The device of a stage, and how PyTorch's allocator is set up for a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from pipeline_lib import device
from pipeline_lib.device import compute_device
from pipeline_lib.errors import UserError

NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> dict[str, str]:
    """Says nothing of the allocator, and is no longer there after the test."""
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    monkeypatch.setattr(device.os, "environ", kept)
    return kept


@pytest.fixture
def gpus(monkeypatch):
    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [("auto", 0, "cpu"), ("auto", 2, "cuda:1"), ("cpu", 2, "cpu"), ("cuda", 2, "cuda:1")],
)
def test_a_process_takes_the_gpu_of_its_number(gpus, environment, asked, count, expected):
    """Segments that grow are for what computes on a GPU alone."""
    gpus(count)
    assert compute_device(asked, local_rank=1) == torch.device(expected)
    on_gpu = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"} if expected != "cpu" else {}
    assert {name: environment[name] for name in NAMES if name in environment} == on_gpu


def test_gpus_that_are_not_there_are_refused(gpus):
    gpus(0)
    with pytest.raises(UserError, match=r"execution\.device: is cuda, but PyTorch sees no GPU; set it to auto or cpu"):
        compute_device("cuda")
    gpus(1)
    with pytest.raises(UserError, match="1 GPUs are visible, but process 2 on this machine needs one too"):
        compute_device("auto", local_rank=1)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_environment_says_of_the_allocator_stands(gpus, environment, name):
    gpus(1)
    environment[name] = "max_split_size_mb:512"
    compute_device("auto")
    assert {each: environment[each] for each in NAMES if each in environment} == {name: "max_split_size_mb:512"}


def test_under_wsl_the_allocator_is_left_alone(monkeypatch, gpus, environment):
    gpus(1)
    monkeypatch.setattr(device.platform, "release", lambda: "5.15.167.4-microsoft-standard-WSL2")
    compute_device("auto")
    assert not set(NAMES) & set(environment)
