"""What validation during training costs: seconds of a validated case against seconds of a step, and the share of time.

    python benchmarks/validation.py                    # the paper's size where there is a GPU, else a small one
    python benchmarks/validation.py --device cpu --fraction 0.05 --every-epochs 100

The step is that of `train_step.py` with a mean teacher; validation predicts a case of `--case` times the patch along
each axis with student and teacher, without overlap, and counts its Dice. Case and step take turns, so that whatever
else the machine does meets both alike. The share is that of a training whose cases are all of this size: `fraction` of
them are validated after every `every-epochs`, and the rest give a crop an epoch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from train_step import measured, parsed, sizes_of

from pipeline_lib.config.validation import Validation
from pipeline_lib.data.crops import TrainingCase
from pipeline_lib.geometry import Geometry
from pipeline_lib.inference.case_dice import case_dice
from pipeline_lib.inference.sliding_window import SlidingWindow, window_count
from pipeline_lib.label_bits import pack
from pipeline_lib.measurement.advice import equal_parts
from pipeline_lib.measurement.cases import WINDOW, record_of, write_cases
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.precision import autocast_type
from pipeline_lib.volumes.store import Volume, open_volume, write_volume

ROUNDS = 3
LARGEST_SHARE = Validation().max_time_share


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


class Constant(torch.nn.Module):
    """In the place of a network: what is left is reading, stitching and counting."""

    def __init__(self, rois: int) -> None:
        super().__init__()
        self.rois = rois

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_zeros(len(images), self.rois, *images.shape[2:])


def seconds_of_case(volume: Volume, options: argparse.Namespace) -> float:
    """Seconds (wall clock on a GPU, processor seconds else) in which one network validates one case."""
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    rois = tuple(f"roi_{k}" for k in range(options.rois))
    sizes = sizes_of(options, options.batch, 1)
    network = build_segmentation_network(sizes.network, torch.randn(options.rois, options.embedding), rois)
    network = network.to(device).eval()
    precision = autocast_type(sizes.execution.precision, device, training=False)
    window = SlidingWindow(sizes.patch, 0.0, 2, False, WINDOW, device, precision)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    found = []
    for predictor in (network, Constant(options.rois).to(device)):
        started = clock()
        case_dice(predictor, volume, rois, window)
        found.append(clock() - started)
    with_network, without = found
    print(
        f"validation: {window_count(volume.shape, window)} windows, {with_network:.3f} s per case and network, "
        f"of which {without:.3f} without the network",
        flush=True,
    )
    return with_network


def seconds_of_crop(cases: tuple[TrainingCase, ...], options: argparse.Namespace) -> float:
    """Seconds that a step takes for each crop of its batch, in the fewest parts that fit."""
    steps = (measured("ours", options, cases, options.batch, parts) for parts in equal_parts(options.batch))
    step = next((found for found in steps if found is not None), None)
    if step is None:
        sys.exit("lower --batch")
    return step.seconds / options.batch


def main() -> None:
    own = argparse.ArgumentParser(add_help=False)
    own.add_argument("--fraction", type=float, default=0.05)
    own.add_argument("--every-epochs", type=int, default=100)
    own.add_argument("--case", type=float, default=3.0)
    chosen, others = own.parse_known_args()
    options = parsed(__doc__, arguments=others)
    for name, value in vars(chosen).items():
        setattr(options, name, value)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        volume = write_volume_to_validate(Path(folder) / "validated", options)
        cases = write_cases(Path(folder), tuple(options.patch), options.rois)
        for _ in range(ROUNDS):
            ratios.append(seconds_of_case(volume, options) / seconds_of_crop(cases, options))
    ratio = statistics.median(ratios)
    print(f"a validated case and network / a crop: {ratio:.2f} ({', '.join(f'{each:.2f}' for each in ratios)})")
    validating, training = 2 * options.fraction * ratio, (1 - options.fraction) * options.every_epochs
    share = validating / (training + validating)
    print(f"share of the time at fraction {options.fraction:g}, every {options.every_epochs} epochs: {share:.2%}")
    if share > LARGEST_SHARE:
        print(f"more than {LARGEST_SHARE:.0%}: a training would leave out some validations")


if __name__ == "__main__":
    main()
