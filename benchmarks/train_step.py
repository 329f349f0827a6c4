"""Time and peak memory of one training step: this code against a plain composition of what one would write today.

    python benchmarks/train_step.py --device cpu --patch 32 64 64 --batch 4 --feature-size 12 --depth 1 --window 4
    python benchmarks/train_step.py --device cuda --patch 96 160 160 --batch 4 --accumulation 2

A step is student forward and backward, teacher forward, existence, the three losses, AdamW and moving average, from
crops in memory on. `plain` is MONAI's SwinUNETR in eager mode with DoDNet's per-sample head (grouped convolutions), the
ROI-aware network run on every batch, losses in a loop over samples and ROIs, AdamW's and the average's loops over
parameters. Both have the same batch, patch, precision and trunk. Each runs in a process of its own, for the memory.
On a CPU time is processor time, which neighbours on the machine disturb less; on a GPU it is wall clock.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import SwinUNETR
from torch import Tensor, nn

from pipeline_lib.config.augmentation import Augmentation
from pipeline_lib.config.methods import Method, Networks, SwinUnetr, Teacher
from pipeline_lib.config.optimisation import Execution, Optimisation
from pipeline_lib.config.roi_aware import RoiAware
from pipeline_lib.learning.batches import Batch, Views
from pipeline_lib.learning.partial_labels import PartialLabels
from pipeline_lib.learning.processes import Processes
from pipeline_lib.learning.reading import Region
from pipeline_lib.learning.step import Stepper
from pipeline_lib.learning.weak_view import draw_weak, region_to_read
from pipeline_lib.networks.build import build_roi_aware_network, build_segmentation_network
from pipeline_lib.networks.precision import autocast_type

WINDOW = (-325.0, 325.0)
Step = Callable[[int, list[list[Region]]], None]
"""Takes the step of a number with its crops, in parts."""

METHOD = Method(encoder="text", latent="cross_entropy", consistency="ambiguous")


class PlainNetwork(nn.Module):
    """MONAI's SwinUNETR as it comes, its output taken as features, and a head that loops over the samples."""

    def __init__(self, sizes: SwinUnetr, rois: int, embedding: int) -> None:
        super().__init__()
        width = sizes.feature_size
        self.trunk = SwinUNETR(
            in_channels=1,
            out_channels=8,
            feature_size=width,
            depths=sizes.depths,
            num_heads=sizes.heads,
            window_size=sizes.window,
        )
        self.trunk.encoder10.register_forward_hook(self._keep)
        self.pool = nn.Sequential(nn.GroupNorm(16, 16 * width), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
        self.image = nn.Conv3d(16 * width, 256, 1)
        self.text = nn.Sequential(nn.Linear(embedding, 256), nn.ReLU())
        self.controller = nn.Conv3d(512, 153, 1)
        self.register_buffer("embeddings", torch.randn(rois, embedding))

    def _keep(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.bottleneck = output

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk(images)
        pooled = self.image(self.pool(self.bottleneck))
        text = self.text(self.embeddings)
        K = len(text)
        logits = []
        for sample in range(len(images)):
            condition = torch.cat([pooled[sample].flatten().expand(K, -1), text], 1)
            parameters = self.controller(condition[..., None, None, None]).flatten(1)
            w1, b1, w2, b2, w3, b3 = parameters.split([64, 8, 64, 8, 8, 1], 1)
            x = features[sample : sample + 1].repeat(1, K, 1, 1, 1)
            x = F.relu(F.conv3d(x, w1.reshape(K * 8, 8, 1, 1, 1), b1.flatten(), groups=K))
            x = F.relu(F.conv3d(x, w2.reshape(K * 8, 8, 1, 1, 1), b2.flatten(), groups=K))
            logits.append(F.conv3d(x, w3.reshape(K, 8, 1, 1, 1), b3.flatten(), groups=K))
        return torch.cat(logits)


def plain_losses(logits: Tensor, teacher: Tensor, labels: Tensor, labelled: Tensor, scores: Tensor) -> Tensor:
    """The same three terms as METHOD's, one ROI of one sample after the other."""
    supervised, latent, consistency = [], [], []
    for b in range(len(logits)):
        for k in range(logits.shape[1]):
            student = logits[b, k].float()
            probability = torch.sigmoid(student)
            target = torch.sigmoid(teacher[b, k].float())
            if labelled[b, k]:
                truth = labels[b, k].float()
                dice = (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
                supervised.append(F.binary_cross_entropy_with_logits(student, truth) + 1 - dice)
            elif scores[b, k] > METHOD.positive_above or scores[b, k] < METHOD.negative_below:
                sharp = target**10 / (target**10 + (1 - target) ** 10)
                latent.append(F.binary_cross_entropy_with_logits(student, sharp))
            else:
                consistency.append(F.mse_loss(probability, target))
    return sum(torch.stack(terms).mean() for terms in (supervised, latent, consistency) if terms)


def plain_step(options: argparse.Namespace, device: torch.device) -> Step:
    student = PlainNetwork(trunk_sizes(options), options.rois, options.embedding).to(device)
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    roi_aware = build_roi_aware_network(RoiAware(width=options.roi_aware_width), options.structures).to(device).eval()
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=1e-5)
    views, dtype = views_of(options, device), autocast_type(options.precision, device)

    def step(number: int, parts: list[list[Region]]) -> None:
        optimiser.zero_grad()
        for part in parts:
            batch: Batch = views.batch(part)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = student(batch.strong)
                with torch.no_grad():
                    teacher_logits = teacher(batch.weak)
                    scores = torch.sigmoid(roi_aware(batch.weak))[:, : options.rois]
            loss = plain_losses(logits, teacher_logits, batch.labels, batch.labelled, scores)
            (loss / options.accumulation).backward()
        optimiser.step()
        with torch.no_grad():
            for mine, students in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.mul_(0.999).add_(students, alpha=0.001)

    return step


def our_step(options: argparse.Namespace, device: torch.device) -> Step:
    networks = Networks(swin_unetr=trunk_sizes(options))
    embeddings = torch.randn(options.rois, options.embedding)
    student = build_segmentation_network(METHOD, networks, embeddings, options.gradient_checkpointing).to(device)
    names = tuple(f"roi_{k}" for k in range(options.rois))
    task = PartialLabels(student, METHOD, Teacher(), names, scorer=None)
    execution = Execution(
        device=device.type, precision=options.precision, accumulation=options.accumulation, compile=options.compile
    )
    optimisation = Optimisation(batch=options.batch, epochs=10)
    stepper = Stepper(
        task, views_of(options, device), optimisation, execution, Processes(0, 1, device), 1000, "benchmark"
    )

    def step(number: int, parts: list[list[Region]]) -> None:
        stepper.take(number, [region for part in parts for region in part], stop_asked=False)

    return step


def trunk_sizes(options: argparse.Namespace) -> SwinUnetr:
    return SwinUnetr(feature_size=options.feature_size, depths=(options.depth,) * 4, window=options.window)


def views_of(options: argparse.Namespace, device: torch.device) -> Views:
    augmentation = Augmentation()
    return Views(augmentation.weak, augmentation.strong, tuple(options.patch), WINDOW, 0, device)


def parts_of(options: argparse.Namespace, number: int) -> list[list[Region]]:
    """The step's crops as the data workers deliver them, in as many parts as `--accumulation` says."""
    regions = [region_of(options, number * options.batch + place) for place in range(options.batch)]
    size = options.batch // options.accumulation
    return [regions[first : first + size] for first in range(0, options.batch, size)]


def region_of(options: argparse.Namespace, sample: int) -> Region:
    """A random crop of which two ROIs are labelled; the others' scores are of all three kinds."""
    random = np.random.default_rng(sample % 8)
    zoom = draw_weak(Augmentation().weak, 0, sample).zoom
    _, shape = region_to_read(np.zeros(3, np.int64), tuple(options.patch), zoom)
    planes = (options.rois + 7) // 8
    labelled = torch.zeros(options.rois, dtype=torch.bool)
    labelled[[sample % options.rois, (sample + 1) % options.rois]] = True
    return Region(
        sample,
        str(sample),
        torch.from_numpy(random.integers(-325, 325, shape, dtype=np.int16)),
        torch.from_numpy(random.integers(0, 4, (planes, *shape), dtype=np.uint8)),
        labelled,
        torch.from_numpy(random.random(options.rois, dtype=np.float32)),
    )


def measure(variant: str, options: argparse.Namespace, results: multiprocessing.Queue) -> None:
    """Put (seconds per step, peak bytes) of one variant into `results`."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    step = {"plain": plain_step, "ours": our_step}[variant](options, device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    seconds = []
    for number in range(options.warm_up + options.steps):
        parts = parts_of(options, number)
        started = clock()
        step(number, parts)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(clock() - started)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_of_process()
    results.put((statistics.median(seconds[options.warm_up :]), peak))


def peak_of_process() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 64, 64], help="D H W")
    parser.add_argument("--compile", action="store_true", help="compile our student")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="in our trunk")
    for name, default in {
        "batch": 4,
        "accumulation": 1,
        "rois": 11,
        "embedding": 512,
        "feature-size": 48,
        "depth": 2,
        "window": 7,
        "structures": 104,
        "roi-aware-width": 64,
        "threads": 1,
        "steps": 5,
        "warm-up": 2,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    if options.batch % options.accumulation:
        parser.error("--batch must divide by --accumulation")
    context = multiprocessing.get_context("spawn")
    found = {}
    for variant in ("plain", "ours"):
        results = context.Queue()
        process = context.Process(target=measure, args=(variant, options, results))
        process.start()
        found[variant] = results.get()
        process.join()
        seconds, peak = found[variant]
        print(f"{variant:6} {seconds:8.3f} s per step, peak {peak / 2**30:6.2f} GiB", flush=True)
    (plain_seconds, plain_peak), (our_seconds, our_peak) = found["plain"], found["ours"]
    print(f"ratio: {plain_seconds / our_seconds:.2f} times the speed, {our_peak / plain_peak:.2f} of the memory")


if __name__ == "__main__":
    main()
