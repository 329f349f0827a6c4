"""The device that a stage computes on, and whether its memory ran out."""

from __future__ import annotations

import torch

from .errors import UserError


def compute_device(asked: str, key: str = "execution.device", local_rank: int = 0) -> torch.device:
    """The device for the setting `asked` (auto, cpu or cuda) of the config's `key`; rank r of a machine takes GPU r.

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
    return torch.device("cuda", local_rank)


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "failed to allocate", "alloc_failed")
"""What PyTorch, its CPU allocator, oneDNN, cuBLAS and cuDNN say, in lower case."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, whichever library says so."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(phrase in said for phrase in _OUT_OF_MEMORY)
    )
