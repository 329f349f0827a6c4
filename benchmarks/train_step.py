"""Time and peak memory of one training step: this code against a plain composition.

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
import sys
import tempfile
from pathlib import Path
from typing import get_args

import torch

from pipeline_lib.config.optimisation import Checkpointing, Execution
from pipeline_lib.data.crops import TrainingCase
from pipeline_lib.measurement.cases import write_cases
from pipeline_lib.measurement.sizes import PAPER, PAPERS_STEPS, SMALL, StepSizes
from pipeline_lib.measurement.timing import Measured, MeasuringError, Timing, Variant
from pipeline_lib.measurement.timing import measured as measured_in_process
from pipeline_lib.networks.precision import autocast_type
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr

SIZES = {
    device: {
        "patch": sizes.patch,
        "batch": sizes.batch_size,
        "feature_size": sizes.network.feature_size,
        "depth": sizes.network.depths[0],
        "window": sizes.network.window_size,
        "structures": sizes.structures,
        "roi_aware_width": sizes.roi_aware_width,
        "embedding": sizes.embedding,
        "num_workers": num_workers,
    }
    for device, sizes, num_workers in (("cpu", SMALL, 0), ("cuda", PAPER, 8))
}


def sizes_of(options: argparse.Namespace, batch: int, parts: int) -> StepSizes:
    """What the options ask for, with `batch` samples in `parts`."""
    return StepSizes(
        patch=tuple(options.patch),
        batch_size=batch,
        network=SwinUnetr(
            kind="swin_unetr",
            feature_size=options.feature_size,
            depths=(options.depth,) * 4,
            window_size=options.window,
        ),
        rois=options.rois,
        embedding=options.embedding,
        structures=options.structures,
        roi_aware_width=options.roi_aware_width,
        execution=Execution(
            device=options.device,
            precision=options.precision,
            memory_format=options.memory_format,
            gradient_accumulation_steps=parts,
            gradient_checkpointing=options.gradient_checkpointing,
            fused_head=options.fused_head,
            compile=options.compile,
        ),
    )


def measured(
    variant: Variant, options: argparse.Namespace, cases: tuple[TrainingCase, ...], batch: int, parts: int
) -> Measured | None:
    """Time and memory of a variant, and a line about it; None if it does not fit the GPU."""
    timing = Timing(options.device, options.threads, options.steps, options.warm_up, options.num_workers)
    try:
        found = measured_in_process(variant, sizes_of(options, batch, parts), cases, timing)
    except MeasuringError as error:
        sys.exit(f"{variant}: {error}")
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
        cases = write_cases(Path(folder), tuple(options.patch), options.rois)
        compare(options, cases)
        if options.device == "cuda":
            papers_run(options, cases)


if __name__ == "__main__":
    main()
