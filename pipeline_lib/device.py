"""The device that a stage computes on, and whether its memory ran out."""

from __future__ import annotations

import os
import platform

import torch

from .errors import UserError

_ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
"""Every PyTorch reads this name and prefers it; 2.9.1 ignores the newer one for CUDA (pytorch issue 183387)."""
_ALLOCATOR_NAMES = (_ALLOCATOR, "PYTORCH_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")


def _let_segments_grow() -> None:
    """Ask PyTorch's allocator for segments that grow; to be called before this process's first bytes on a GPU.

    The paper's batch takes 78 GiB of an H100 with them and does not fit without (docs/performance.md): fixed segments
    leave 15 to 60 % unused. What the environment says of the allocator stands. Child processes inherit it. Under WSL
    nothing is set: there the first allocation can fail with such segments (pytorch issue 192330).
    """
    under_wsl = "microsoft" in platform.release().lower()
    if not under_wsl and not any(name in os.environ for name in _ALLOCATOR_NAMES):
        os.environ[_ALLOCATOR] = "expandable_segments:True"


def compute_device(asked: str, key: str = "execution.device", local_rank: int = 0) -> torch.device:
    """The device for the setting `asked` (auto, cpu or cuda) of the config's `key`; rank r of a machine takes GPU r.

    For a GPU the allocator is set up too.

    UserError: a GPU is asked for and there is none, or there are fewer than ranks.
    """
    available = torch.cuda.is_available()
    if asked == "cpu" or (asked == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise UserError(key, "is cuda, but PyTorch sees no GPU", "set it to auto or cpu")
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            key,
            f"{torch.cuda.device_count()} GPUs are visible, but process {local_rank + 1} on this machine needs one too",
            "start at most as many processes as there are GPUs",
        )
    _let_segments_grow()
    return torch.device("cuda", local_rank)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate", "alloc_failed")
"""What PyTorch, its CPU allocator, oneDNN, cuBLAS and cuDNN say, in lower case."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, whichever library says so."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in said for phrase in _OUT_OF_MEMORY)
    )
