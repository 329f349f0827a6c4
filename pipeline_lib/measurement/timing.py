"""Time and peak memory of training steps, each kind in a process of its own, for the memory."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import statistics
import time
from contextlib import closing, nullcontext
from typing import Literal, NamedTuple

import psutil
import torch

from ..config.augmentation import Augmentation
from ..data.crops import CropPlan, TrainingCase
from ..data.reading import CropReader, regions
from ..device import compute_device
from ..training.distributed import init_distributed
from .cases import POOL
from .sizes import PAPERS_STEPS, StepSizes
from .steps import our_step, their_step

Variant = Literal["plain", "ours", "online"]
"""The plain composition, this code, and this code with existence scores online."""


class Timing(NamedTuple):
    """How steps are timed: on which device type, with how many threads on a CPU, how many steps after how many."""

    device: str
    threads: int = 1
    steps: int = 5
    warm_up: int = 2
    num_workers: int = 0


class Measured(NamedTuple):
    """Median seconds of a step, peak bytes, the share of time spent waiting for crops, and the last loss.

    On a GPU: wall clock, and what torch's allocator gave out. On a CPU: processor seconds, which neighbours on the
    machine disturb less, and the process's memory; `before` of it was taken before the step was built, libraries above
    all.
    """

    seconds: float
    peak: int
    before: int
    waiting: float
    loss: float


class MeasuringError(RuntimeError):
    """A measuring process ended with an error."""


def measured(
    variant: Variant, sizes: StepSizes, cases: tuple[TrainingCase, ...], timing: Timing, most_seconds: float = math.inf
) -> Measured | None:
    """Time and memory of a variant; None if the GPU's memory is too small.

    Raises MeasuringError, with the error's first line, if it ends with one or takes more than `most_seconds`.
    """
    # The process that others are forked from imports torch once and never starts a GPU.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    results = context.Queue()
    process = context.Process(target=_measure, args=(variant, sizes, cases, timing, results))
    process.start()
    began = time.monotonic()
    while results.empty() and process.is_alive() and time.monotonic() - began < most_seconds:
        time.sleep(0.1)
    if results.empty() and process.is_alive():
        process.kill()
        raise MeasuringError(f"took more than {most_seconds:.0f} s")
    process.join(0.5)
    if results.empty():
        raise MeasuringError(f"the process ended with {process.exitcode}")
    found = results.get()
    process.join()
    if isinstance(found, str):
        raise MeasuringError(found)
    return found


def _measure(
    variant: Variant,
    sizes: StepSizes,
    cases: tuple[TrainingCase, ...],
    timing: Timing,
    results: multiprocessing.Queue,
) -> None:
    try:
        results.put(timed_steps(variant, sizes, cases, timing))
    except torch.OutOfMemoryError:
        results.put(None)
    except Exception as error:
        results.put(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}")


def timed_steps(variant: Variant, sizes: StepSizes, cases: tuple[TrainingCase, ...], timing: Timing) -> Measured:
    """`measured` in this process."""
    torch.set_num_threads(timing.threads)
    torch.manual_seed(0)
    device = compute_device(timing.device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    plan = CropPlan(len(cases), POOL, epochs=PAPERS_STEPS, batch_size=sizes.batch_size, seed=0)
    reader = CropReader(cases, plan, sizes.patch, Augmentation().weak)
    if variant != "plain":
        # What a stage does too, before its first tensor.
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
    stream = regions(reader, 0, num_workers=timing.num_workers, pinned=device.type == "cuda")
    seconds, whole, waiting, loss = [], 0.0, 0.0, math.nan
    with closing(stream), init_distributed(sizes.execution) if variant != "plain" else nullcontext() as distributed:
        before = _reset_peak(device)
        if distributed is None:
            step = their_step(sizes, device)
        else:
            step = our_step(sizes, distributed, online=variant == "online")
        for number in range(timing.warm_up + timing.steps):
            began = time.perf_counter()
            crops = [next(stream) for _ in range(sizes.batch_size)]
            waited, started = time.perf_counter() - began, clock()
            loss = float(step(number, crops))
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock() - started)
            if number >= timing.warm_up:
                waiting, whole = waiting + waited, whole + time.perf_counter() - began
    return Measured(statistics.median(seconds[timing.warm_up :]), _peak(device), before, waiting / whole, loss)


def _reset_peak(device: torch.device) -> int:
    """Start to look for the peak; the bytes that are taken now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return psutil.Process().memory_info().rss


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
