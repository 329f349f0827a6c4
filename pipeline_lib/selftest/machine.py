"""What a bug report must say about the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import psutil
import torch

from ..machine import available_memory, processor
from ..version import installed, version

_PACKAGES = ("numpy", "monai", "triton", "snakemake")
_GIB = 2**30


def described() -> Iterator[str]:
    """A line for versions, processor, memory, and each GPU."""
    versions = installed(_PACKAGES)
    packages = ", ".join(f"{name} {versions.get(name, 'absent')}" for name in _PACKAGES)
    yield f"lacuna {version()}, Python {platform.python_version()}, torch {torch.__version__}, {packages}"
    yield f"{platform.platform()}; {processor()}, {usable_cores()} of {os.cpu_count()} cores, load {load():.1f}"
    whole = psutil.virtual_memory().total / _GIB
    yield f"memory {whole:.1f} GiB, of which {available_memory() / _GIB:.1f} GiB can be taken"
    if not torch.cuda.is_available():
        yield "no GPU that PyTorch sees: what needs one is not checked"
        return
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        free, _ = torch.cuda.mem_get_info(number)
        yield (
            f"GPU {number}: {card.name}, {card.total_memory / _GIB:.1f} GiB ({free / _GIB:.1f} free), "
            f"compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
        )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Processes that wanted a core in the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def patience() -> float:
    """By how much to prolong time limits, since a check on a busy machine is slow with nothing wrong."""
    return min(10.0, max(1.0, load() / (os.cpu_count() or 1)))
