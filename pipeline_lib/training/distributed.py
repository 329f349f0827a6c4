"""The processes that train together: one without torchrun, or as many as torchrun started."""

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
from ..errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process among `count`, and the device on which it works. Number 0 writes and reports."""

    number: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.number == 0

    def share(self, network: nn.Module) -> nn.Module:
        """`network` such that its gradients are averaged over the processes; itself where there is one process."""
        if self.count == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        # find_unused_parameters is for its side effect: otherwise the gradients are laid out anew after the first step.
        # Their place decides in which order more than two processes add them, so a resumed training would differ.
        return DistributedDataParallel(
            network, device_ids=devices, gradient_as_bucket_view=True, find_unused_parameters=True
        )

    def summed(self, values: Tensor) -> Tensor:
        """Sum of `values` (float64) over all processes, equal in each of them."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def gathered(self, value: Any) -> list[Any]:
        """Every process's `value`, in the order of the processes."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values


@contextmanager
def joined_processes(execution: Execution) -> Iterator[Processes]:
    """Join the group that torchrun describes in the environment, if any, and leave it at the end.

    gloo connects processes on a CPU, nccl those on GPUs. UserError: a GPU is asked for and there is none, or fewer
    than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    number = int(os.environ.get("RANK", "0"))
    device = training_device(execution.device, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cpu":
        _share_cores(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        # With several threads, the gradient of an indexed tensor (SwinUNETR's table of relative positions) is otherwise
        # added up in a random order, and a resumed training would differ from one that was not stopped.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # That would also write NaN into every new tensor before it is used, for 4 % of a step.
        torch.utils.deterministic.fill_uninitialized_memory = False
    else:
        torch.cuda.set_device(device)
    if count == 1:
        yield Processes(0, 1, device)
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    # One that leaves at once, with an error, would close connections that others are still making.
    distributed.barrier(device_ids=[device.index] if device.type == "cuda" else None)
    try:
        yield Processes(number, count, device)
    finally:
        distributed.destroy_process_group()


def training_device(asked: str, local_number: int = 0) -> torch.device:
    """The device for `execution.device`; process `local_number` on its machine takes the GPU of that number."""
    available = torch.cuda.is_available()
    if asked == "cpu" or (asked == "auto" and not available):
        return torch.device("cpu")
    if not available:
        raise UserError("execution.device", "is cuda, and PyTorch sees no GPU", "set it to auto or cpu")
    if local_number >= torch.cuda.device_count():
        raise UserError(
            "execution.device",
            f"{torch.cuda.device_count()} GPUs are visible and process {local_number + 1} on this machine needs one",
            "start at most as many processes as there are GPUs",
        )
    return torch.device("cuda", local_number)


def _share_cores(processes_here: int) -> None:
    # Snakemake exports OMP_NUM_THREADS for the whole job, and torchrun sets 1 only where it is unset.
    if processes_here > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes_here))
