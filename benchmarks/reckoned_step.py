"""Peak memory, arithmetic and memory traffic of a training step at the paper's size, reckoned without a GPU.

    python benchmarks/reckoned_step.py                             # patch 160×160×96, 11 ROIs, batch 12, bfloat16
    python benchmarks/reckoned_step.py --accumulation 3 --by-operation

This code's step and the plain composition's, as pipeline_lib/measurement/estimate.py reckons them, with an H100's
rates. Options for sizes are those of train_step.py.
"""

from __future__ import annotations

import argparse
import collections
import sys
from dataclasses import replace
from typing import get_args

import train_step

from pipeline_lib.config.optimisation import Checkpointing
from pipeline_lib.measurement.cards import CARDS
from pipeline_lib.measurement.estimate import Estimate, estimate
from pipeline_lib.measurement.sizes import StepSizes
from pipeline_lib.measurement.timing import Variant

RATES = CARDS["H100"].rates


def estimated(variant: Variant, sizes: StepSizes, options: argparse.Namespace) -> Estimate:
    """The estimate, and where its time goes if that is asked for."""
    found = estimate(variant, sizes, "cuda")
    if options.by_operation:
        print(f"{variant} | TFLOP | GB | ms")
        rows: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
        for call in found.calls:
            added = call.operations, call.moved, call.seconds(RATES)
            rows[call.name] = [old + new for old, new in zip(rows[call.name], added, strict=True)]
        for name, (operations, moved, seconds) in sorted(rows.items(), key=lambda row: -row[1][2])[:25]:
            print(f"{name} | {operations / 1e12:.1f} | {moved / 1e9:.1f} | {1000 * seconds:.1f}")
    return found


def main() -> None:
    options = train_step.parsed(__doc__, "--by-operation", device="cuda", precision="bfloat16")
    if options.batch % options.accumulation:
        sys.exit("--accumulation must divide --batch")
    print(
        f"D×H×W {'×'.join(map(str, options.patch))}, {options.rois} ROIs, batch {options.batch} in "
        f"{options.accumulation}, {options.precision}"
    )
    sizes = train_step.sizes_of(options, options.batch, options.accumulation)
    rows = {"plain": estimated("plain", sizes, options)}
    for kind in get_args(Checkpointing):
        execution = sizes.execution.model_copy(update={"gradient_checkpointing": kind})
        row = estimated("ours", replace(sizes, execution=execution), options)
        rows[f"lacuna, gradient_checkpointing: {kind}"] = row
    plain = rows["plain"]
    print("variant | GiB at the peak | of plain's | TFLOP | TB moved | ms at the limits | plain's / this")
    for name, row in rows.items():
        seconds = row.seconds(RATES)
        print(
            f"{name} | {row.peak / 2**30:.1f} | {row.peak / plain.peak:.2f} | {row.operations / 1e12:.1f} | "
            f"{row.moved / 1e12:.2f} | {1000 * seconds:.0f} | {plain.seconds(RATES) / seconds:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
