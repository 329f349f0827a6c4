"""Time and peak memory of one training step: this code against a plain composition (`plain_step.py`).

    python benchmarks/train_step.py                   # the paper's size where there is a GPU, else a small one
    python benchmarks/train_step.py --device cpu --batch 4 --patch 32 64 64 --precision float32

A step is student forward and backward, teacher forward, existence, the three losses, AdamW and moving average. Both
have the same crops, patch, batch, precision and trunk, and each runs in a process of its own, for the memory. Crops are
read from a store of made-up volumes by `--num-workers`; the time that a step waits for them is measured apart.

On a GPU: wall clock, patches of 160×160×96 voxels, 11 ROIs, the published network, and of `--batch` 12 as many as fit
both; then the time of this code's step with the whole batch, in as few parts as fit, and what that makes of the paper's
153,000 steps. On a CPU: processor seconds of one thread, which neighbours on the machine disturb less, and the sizes of
config/config.yaml; the memory is that of the whole process, about 1 GiB of it libraries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import torch
from plain_step import plain_step
from records import record_of

from pipeline_lib.config.augmentation import Augmentation
from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.config.optimisation import Checkpointing, Execution, Optimisation
from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.data.batches import ViewMaker
from pipeline_lib.data.crops import CropPlan, TrainingCase
from pipeline_lib.data.reading import CropReader, Region, regions
from pipeline_lib.existence.scores import RoiScorer
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import pack
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.latent_class.task import LatentClassTask
from pipeline_lib.networks.build import build_roi_aware_network, build_segmentation_network
from pipeline_lib.networks.memory_format import memory_format
from pipeline_lib.networks.precision import autocast_type
from pipeline_lib.networks.recomputing import checkpointing
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from pipeline_lib.training.distributed import Distributed, init_distributed
from pipeline_lib.training.step import Stepper
from pipeline_lib.volumes.store import write_volume

WINDOW = (-325.0, 325.0)
METHOD = LatentClass(kind="latent_class", network="swin_unetr", encoder="text")
PAPERS_STEPS = 153_000
CASES, POOL = 8, 16
SIZES = {
    "cpu": {"patch": (32, 32, 64), "batch": 2, "feature_size": 12, "depth": 1, "window": 4, "structures": 12}
    | {"roi_aware_width": 16, "embedding": 256, "num_workers": 0},
    "cuda": {"patch": (96, 160, 160), "batch": 12, "feature_size": 48, "depth": 2, "window": 7, "structures": 104}
    | {"roi_aware_width": 64, "embedding": 512, "num_workers": 8},
}
Step = Callable[[int, list[Region]], None]


class Measured(NamedTuple):
    """Median seconds of a step, peak bytes, and the share of the wall-clock time spent waiting for crops."""

    seconds: float
    peak: int
    waiting: float


def execution_of(options: argparse.Namespace, parts: int) -> Execution:
    return Execution(
        device=options.device,
        precision=options.precision,
        memory_format=options.memory_format,
        gradient_accumulation_steps=parts,
        gradient_checkpointing=options.gradient_checkpointing,
        fused_head=options.fused_head,
        compile=options.compile,
    )


def our_step(
    options: argparse.Namespace, batch: int, execution: Execution, distributed: Distributed, online: bool
) -> Step:
    """The stepper's step; `online` scores x_T with the ROI-aware network in it (benchmarks/existence.py)."""
    embeddings = torch.randn(options.rois, options.embedding)
    names = tuple(f"roi_{k}" for k in range(options.rois))
    student = build_segmentation_network(
        trunk_sizes(options), embeddings, names, checkpointing(execution, distributed.device), execution.fused_head
    )
    student = student.to(distributed.device, memory_format=memory_format(execution, student, distributed.device))
    task = LatentClassTask(
        student=student,
        names=names,
        settings=METHOD,
        teacher=Teacher(),
        structures=tuple((name,) for name in names),
        scorer=online_scorer(options, distributed.device) if online else None,
    )
    optimisation, view_maker = Optimisation(batch_size=batch), view_maker_of(options, distributed.device)
    stepper = Stepper(task, view_maker, optimisation, execution, distributed, steps=PAPERS_STEPS, title="benchmark")

    def take(step: int, crops: list) -> None:
        stepper.train_step(step, crops, stop_asked=False)

    return take


def online_scorer(options: argparse.Namespace, device: torch.device) -> RoiScorer:
    """A frozen ROI-aware network of random weights; ROI k takes structure k."""
    names = [f"structure_{number}" for number in range(options.structures)]
    network = build_roi_aware_network(RoiAware(width=options.roi_aware_width), options.structures)
    return RoiScorer(network, names, [[name] for name in names[: options.rois]]).to(device)


def their_step(options: argparse.Namespace, batch: int, parts: int, device: torch.device) -> Step:
    roi_aware = build_roi_aware_network(RoiAware(width=options.roi_aware_width), options.structures).to(device)
    precision = autocast_type(options.precision, device)
    take = plain_step(trunk_sizes(options), options.rois, options.embedding, roi_aware, METHOD, precision)
    view_maker, size = view_maker_of(options, device), batch // parts
    return lambda number, crops: take([view_maker.batch(crops[at : at + size]) for at in range(0, batch, size)])


def trunk_sizes(options: argparse.Namespace) -> SwinUnetr:
    depths = (options.depth,) * 4
    return SwinUnetr(kind="swin_unetr", feature_size=options.feature_size, depths=depths, window_size=options.window)


def view_maker_of(options: argparse.Namespace, device: torch.device) -> ViewMaker:
    augmentation = Augmentation()
    return ViewMaker(augmentation.strong, tuple(options.patch), WINDOW, 0, device)


def write_cases(folder: Path, options: argparse.Namespace) -> tuple[TrainingCase, ...]:
    """Volumes of noise, half again as long as the patch; each labels two ROIs, boxes, and has scores of all kinds."""
    found = []
    rois = tuple(f"roi_{k}" for k in range(options.rois))
    shape = tuple(side * 3 // 2 for side in options.patch)
    for number in range(CASES):
        random = np.random.default_rng(number)
        masks = np.zeros((options.rois, *shape), bool)
        for mask in masks:
            corner = random.integers(0, [side // 2 for side in shape])
            mask[tuple(slice(at, at + side // 3) for at, side in zip(corner, shape, strict=True))] = True
        labelled = np.isin(np.arange(options.rois), [number % options.rois, (number + 1) % options.rois])
        geometry = Geometry(size=shape[::-1], spacing_mm=(1.5, 0.8, 0.8), origin_mm=(0, 0, 0))
        names = tuple(np.array(rois)[labelled].tolist())
        record = record_of(geometry, geometry, rois, names, WINDOW)
        case = f"case_{number}"
        image = random.normal(0, 60, shape).clip(*WINDOW).astype(np.int16)
        write_volume(folder / case, image, pack(masks & labelled[:, None, None, None]), record)
        pool = random.integers(0, [side // 3 for side in options.patch], (POOL, 3))
        scores = random.random((POOL, options.rois), dtype=np.float32)
        found.append(TrainingCase("made_up", case, folder / case, labelled, pool, scores))
    return tuple(found)


def measure(
    variant: str,
    options: argparse.Namespace,
    cases: tuple[TrainingCase, ...],
    batch: int,
    parts: int,
    results: multiprocessing.Queue,
) -> None:
    """Put what was measured of a variant (plain, ours, online) into `results`, None if it does not fit the GPU."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    plan = CropPlan(len(cases), POOL, epochs=PAPERS_STEPS, batch_size=batch, seed=0)
    reader = CropReader(cases, plan, tuple(options.patch), Augmentation().weak)
    execution = execution_of(options, parts)
    if variant != "plain":
        # What a stage does too, before its first tensor.
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
    stream = regions(reader, 0, num_workers=options.num_workers, pinned=device.type == "cuda")
    seconds, whole, waiting = [], 0.0, 0.0
    with closing(stream), init_distributed(execution) if variant != "plain" else nullcontext() as distributed:
        try:
            if distributed is None:
                step = their_step(options, batch, parts, device)
            else:
                step = our_step(options, batch, execution, distributed, online=variant == "online")
            for number in range(options.warm_up + options.steps):
                began = time.perf_counter()
                crops = [next(stream) for _ in range(batch)]
                waited, started = time.perf_counter() - began, clock()
                step(number, crops)
                if device.type == "cuda":
                    torch.cuda.synchronize()
                seconds.append(clock() - started)
                if number >= options.warm_up:
                    waiting, whole = waiting + waited, whole + time.perf_counter() - began
        except torch.OutOfMemoryError:
            results.put(None)
            return
        peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_of_process()
        results.put(Measured(statistics.median(seconds[options.warm_up :]), peak, waiting / whole))


def peak_of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(variant: str, options: argparse.Namespace, cases: tuple, batch: int, parts: int) -> Measured | None:
    """`measure` in a process of its own, and a line about it."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(variant, options, cases, batch, parts, results))
    process.start()
    while results.empty() and process.is_alive():
        time.sleep(0.1)
    if process.exitcode:
        sys.exit(f"{variant}: ended with {process.exitcode}")
    found = results.get()
    process.join()
    said = f"{variant:6} batch {batch} in {parts}: "
    said += "does not fit" if found is None else f"{found.seconds:.3f} s per step, peak {found.peak / 2**30:.2f} GiB"
    print(said, flush=True)
    return found


def compare(options: argparse.Namespace, cases: tuple[TrainingCase, ...]) -> None:
    """Both variants with the largest part of the batch that fits both."""
    for batch in [size for size in range(options.batch, 0, -1) if options.batch % size == 0]:
        parts = min(options.accumulation, batch)
        plain = measured("plain", options, cases, batch, parts)
        ours = plain and measured("ours", options, cases, batch, parts)
        if plain and ours:
            print(
                f"ratio: {plain.seconds / ours.seconds:.2f} times the speed, {ours.peak / plain.peak:.2f} of the memory"
            )
            print(f"waiting for crops: {100 * ours.waiting:.1f} % of our step with {options.num_workers} workers")
            return


def papers_run(options: argparse.Namespace, cases: tuple[TrainingCase, ...]) -> None:
    """How long this code's step takes with the whole batch, in as few parts as fit, times the paper's steps."""
    for parts in [count for count in range(1, options.batch + 1) if options.batch % count == 0]:
        ours = measured("ours", options, cases, options.batch, parts)
        if ours:
            hours = PAPERS_STEPS * ours.seconds / (1 - ours.waiting) / 3600
            print(f"the paper's {PAPERS_STEPS:,} steps: {hours:.1f} hours")
            return


def parsed(
    description: str | None, *flags: str, arguments: list[str] | None = None, **defaults: str
) -> argparse.Namespace:
    """The options and further `flags`, of `arguments` or the command line; `defaults` replace those below."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SIZES), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    parser.add_argument("--memory-format", choices=["auto", "contiguous", "channels_last"], default="auto")
    parser.add_argument("--patch", type=int, nargs=3, help="D H W")
    parser.add_argument("--compile", action="store_true", help="compile our student")
    parser.add_argument("--gradient-checkpointing", choices=["auto", *get_args(Checkpointing)], default="auto")
    parser.add_argument("--fused-head", action=argparse.BooleanOptionalAction, default=True, help="on a GPU")
    for name in (name for name in SIZES["cpu"] if name != "patch"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    for name, default in {"accumulation": 1, "rois": 11, "threads": 1, "steps": 5, "warm-up": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    parser.set_defaults(**defaults)
    options = parser.parse_args(arguments)
    for name, size in SIZES[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, size)
    return options


def main() -> None:
    options = parsed(__doc__)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {options.threads} threads"
    precision = str(autocast_type(options.precision, torch.device(options.device))).removeprefix("torch.")
    print(f"{name}, {precision}, D×H×W {'×'.join(map(str, options.patch))}, {options.rois} ROIs", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder), options)
        compare(options, cases)
        if options.device == "cuda":
            papers_run(options, cases)


if __name__ == "__main__":
    main()
