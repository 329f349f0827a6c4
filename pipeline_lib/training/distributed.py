"""Distributed training: one process on its own, or as many ranks as the launcher (or torchrun) started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..config.optimisation import Execution
from ..device import compute_device


@dataclass(frozen=True)
class Distributed:
    """This process's `rank` among `world_size`, and its device. Rank 0 writes files and messages."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """`network` in DistributedDataParallel, which averages gradients over the ranks; itself where there is one."""
        if self.world_size == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # find_unused_parameters is for its side effect: without it the gradients' buckets are rebuilt after the first
        # step. Their order decides how more than two ranks add them, so a resumed training would differ.
        return DistributedDataParallel(
            network, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=True
        )

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum of `values` over all ranks, in place, equal in each of them."""
        if self.world_size > 1:
            distributed.all_reduce(values)
        return values

    def all_gather(self, value: Any) -> list[Any]:
        """Every rank's `value` (anything that can be pickled), in the order of the ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def init_distributed(execution: Execution) -> Iterator[Distributed]:
    """Join the process group that the environment describes, if any, and leave it at the end.

    The variables are torchrun's. gloo connects processes on a CPU, nccl those on GPUs. UserError: a GPU is asked for
    and there is none, or there are fewer than ranks on this machine.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    device = compute_device(execution.device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cpu":
        _share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        # With several threads, the gradient of an indexed tensor (SwinUNETR's table of relative positions) would be
        # summed in a random order, and a resumed training would differ from one that was not stopped.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # That would also write NaN into every new tensor before it is used, for 4 % of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    else:
        torch.cuda.set_device(device)
    if world_size == 1:
        yield Distributed(0, 1, device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    # A rank that fails at once would otherwise close connections that others are still making.
    distributed.barrier(device_ids=[device.index] if device.type == "cuda" else None)
    try:
        yield Distributed(rank, world_size, device)
    finally:
        distributed.destroy_process_group()


def _share_cores(local_world_size: int) -> None:
    # Snakemake exports OMP_NUM_THREADS for the whole job, and torchrun sets 1 only where it is unset.
    if local_world_size > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_world_size))
