"""What validation during training costs: seconds of a validated case against seconds of a step, and the share of time.

    python benchmarks/validation.py                    # the paper's size where there is a GPU, else a small one
    python benchmarks/validation.py --device cpu --fraction 0.05 --every-epochs 100

The step is that of `train_step.py` with a mean teacher; validation predicts a case of `--case` times the patch along
each axis with student and teacher, without overlap, and counts its Dice. The share is that of a training whose cases
are all of this size: `fraction` of them are validated after every `every-epochs`, and the rest give a crop an epoch.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from records import record_of
from train_step import WINDOW, execution_of, measured, parsed, trunk_sizes, write_cases

from pipeline_lib.geometry import Geometry
from pipeline_lib.inference.case_dice import case_dice
from pipeline_lib.inference.sliding_window import SlidingWindow, window_count
from pipeline_lib.label_bits import pack
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.precision import autocast_type
from pipeline_lib.volumes.store import Volume, open_volume, write_volume

LARGEST_SHARE = 0.03


def write_volume_to_validate(folder: Path, options: argparse.Namespace) -> Volume:
    """A volume of noise that labels two ROIs, boxes."""
    shape = tuple(round(side * options.case) for side in options.patch)
    rois = tuple(f"roi_{k}" for k in range(options.rois))
    masks = np.zeros((options.rois, *shape), bool)
    masks[:2, : shape[0] // 3, : shape[1] // 3, : shape[2] // 3] = True
    geometry = Geometry(size=shape[::-1], spacing_mm=(0.8, 0.8, 1.5), origin_mm=(0, 0, 0))
    image = np.random.default_rng(0).normal(0, 60, shape).clip(*WINDOW).astype(np.int16)
    write_volume(folder, image, pack(masks), record_of(geometry, geometry, rois, rois[:2], WINDOW))
    return open_volume(folder)


def seconds_of_case(volume: Volume, options: argparse.Namespace) -> float:
    """Seconds (wall clock on a GPU, processor seconds else) in which one network validates one case."""
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    rois = tuple(f"roi_{k}" for k in range(options.rois))
    network = build_segmentation_network(trunk_sizes(options), torch.randn(options.rois, options.embedding), rois)
    network = network.to(device).eval()
    precision = autocast_type(execution_of(options, 1).precision, device, training=False)
    window = SlidingWindow(tuple(options.patch), 0.0, 2, False, WINDOW, device, precision)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = []
    for _ in range(3):
        started = clock()
        case_dice(network, volume, rois, window)
        seconds.append(clock() - started)
    print(f"validation: {window_count(volume.shape, window)} windows, {min(seconds):.3f} s per case and network")
    return min(seconds)


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--fraction", type=float, default=0.05)
    own.add_argument("--every-epochs", type=int, default=100)
    own.add_argument("--case", type=float, default=3.0)
    chosen, others = own.parse_known_args()
    options = parsed(__doc__, arguments=others)
    for name, value in vars(chosen).items():
        setattr(options, name, value)
    with tempfile.TemporaryDirectory() as folder:
        per_case = seconds_of_case(write_volume_to_validate(Path(folder) / "validated", options), options)
        step = None
        for parts in range(1, options.batch + 1):
            if options.batch % parts == 0 and step is None:
                step = measured("ours", options, write_cases(Path(folder), options), options.batch, parts)
    assert step is not None
    training = (1 - options.fraction) * options.every_epochs * step.seconds / options.batch
    validating = 2 * options.fraction * per_case
    share = validating / (training + validating)
    print(f"share of the time at fraction {options.fraction:g}, every {options.every_epochs} epochs: {share:.2%}")
    if share > LARGEST_SHARE:
        print(f"more than {LARGEST_SHARE:.0%}: lower `validation.fraction` or raise `validation.every_epochs`")


if __name__ == "__main__":
    main()
