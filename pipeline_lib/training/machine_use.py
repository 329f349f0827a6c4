"""What a training runs on and how much memory it has taken, for the history."""

from __future__ import annotations

import resource
import sys

import torch

from ..machine import processor


def hardware(device: torch.device) -> str:
    """Name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory so far: the GPU's where there is one, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
