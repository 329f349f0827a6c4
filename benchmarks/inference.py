"""Time and peak memory of sliding-window inference: this project's, and MONAI's with a loop over the ROIs in the head.

    python benchmarks/inference.py --shape 96 128 160 --patch 32 64 64 --feature-size 12
    python benchmarks/inference.py --device cuda --shape 400 512 512 --patch 96 160 160 --feature-size 48
    python benchmarks/inference.py --only case --shape 768 512 512 --patch 96 160 160 --constant-network

The volume is a body of soft tissue in air. Each row is one pass over it in a process of its own:

- lacuna: `networks/*/network.py` in `inference/sliding_window.py`, all ROIs at once, windows over the body alone,
  finished slabs kept as bytes;
- monai: `SlidingWindowInferer` with Gaussian weights around the same trunk, the dynamic head called for one ROI after
  the other, as in the public code of DoDNet and the Universal Model; K float32 channels of the whole volume. It
  raises all blending weights to 0.001 at least, so probabilities differ a little near the corners of windows;
- case (only when asked for): the stage's whole work on a case: lacuna from a volume on disk to ROI bits on the original
  grid, which is the volume's turned around.

Memory is the highest of the process less what it held before, network included (cpu), or of torch's allocator (cuda);
on a GPU MONAI keeps its sums on the CPU, as it has to for a whole CT. `--constant-network` leaves out the network, so
that the memory of a large volume can be measured in minutes; its probabilities are noise, which is the worst for the
compressed bytes. On a machine with other work compare processor seconds. `--monai-precision` lets MONAI's row compute
in another precision than ours.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import blosc2
import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from pipeline_lib.geometry import Geometry
from pipeline_lib.inference.sliding_window import (
    GAUSSIAN_WIDTH,
    SlidingWindow,
    kept_compressed,
    predict_slabs,
    window_starts,
)
from pipeline_lib.label_bits import pack, read_roi_bits
from pipeline_lib.measurement.cases import record_of
from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.dynamic_head import standardised
from pipeline_lib.networks.head_parameters import WIDTH
from pipeline_lib.networks.precision import autocast_type
from pipeline_lib.networks.probabilities import probabilities
from pipeline_lib.networks.swin_unetr.network import TextConditionedSwinUnetr
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from pipeline_lib.progress import Progress
from pipeline_lib.stages.predict.run import predict_case
from pipeline_lib.volumes.intensity import scaled
from pipeline_lib.volumes.store import open_volume, write_volume

WINDOW_HU = (-325.0, 325.0)


class OneRoiAfterTheOther(nn.Module):
    """The same network, with its generated layers applied for one sample and ROI after the other."""

    def __init__(self, network: TextConditionedSwinUnetr) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        bottleneck, skips = self.network.encoded(image)
        decoded = self.network.decoded(bottleneck, skips)
        head = self.network.head
        features = head.features(decoded)
        text = head.text_feature(standardised(self.network.embeddings, head.embedding_mean, head.embedding_scale))
        condition = head.image_feature(bottleneck).flatten(1)
        samples = []
        for sample in range(len(image)):
            maps = []
            for roi in text:
                parameters = head.controller(torch.cat([condition[sample], roi]))
                maps.append(one_head(features[sample : sample + 1], parameters))
            samples.append(torch.cat(maps, dim=1))
        return torch.cat(samples)


class NoNetwork(nn.Module):
    """K logits per voxel for next to nothing: what is left of time and memory is inference's own."""

    def __init__(self, rois: int) -> None:
        super().__init__()
        self.rois = rois

    def forward(self, image: Tensor) -> Tensor:
        return image.expand(-1, self.rois, -1, -1, -1)


def one_head(features: Tensor, parameters: Tensor) -> Tensor:
    """The 8-8-1 layers of one ROI on features 1 8 D H W, parameters 153."""
    shapes = [(WIDTH, WIDTH, 1, 1, 1), (WIDTH,), (WIDTH, WIDTH, 1, 1, 1), (WIDTH,), (1, WIDTH, 1, 1, 1), (1,)]
    parts = [
        part.reshape(shape)
        for part, shape in zip(parameters.split([math.prod(shape) for shape in shapes]), shapes, strict=True)
    ]
    hidden = F.conv3d(features, parts[0], parts[1]).relu_()
    hidden = F.conv3d(hidden, parts[2], parts[3]).relu_()
    return F.conv3d(hidden, parts[4], parts[5])


def torso(shape: tuple[int, int, int]) -> np.ndarray:
    """CT (int16 HU, D H W): a body of noisy soft tissue that fills about half of the field of view, air around it."""
    depth, height, width = shape
    rng = np.random.default_rng(0)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = (x / 0.88) ** 2 + (y / 0.7) ** 2 < 1
    image = np.full(shape, round(WINDOW_HU[0]), np.int16)
    for z in range(depth):
        image[z][body] = rng.normal(60, 60, int(body.sum())).clip(*WINDOW_HU)
    return image


def network_of(options: argparse.Namespace) -> nn.Module:
    if options.constant_network:
        return NoNetwork(options.rois)
    torch.manual_seed(0)
    sizes = SwinUnetr(kind="swin_unetr", feature_size=options.feature_size)
    rois = [f"roi_{number}" for number in range(options.rois)]
    built = build_segmentation_network(sizes, torch.randn(options.rois, 512), rois)
    return built.to(options.device).eval()


def window_of(options: argparse.Namespace) -> SlidingWindow:
    device = torch.device(options.device)
    precision = autocast_type(options.precision, device, training=False)
    return SlidingWindow(
        tuple(options.patch), options.overlap, options.window_batch_size, options.flip_tta, WINDOW_HU, device, precision
    )


def fastest(network: nn.Module, options: argparse.Namespace) -> nn.Module:
    window = window_of(options)
    return network if options.constant_network else network.for_prediction(window.device, window.precision)


def with_lacuna(image: np.ndarray, network: nn.Module, options: argparse.Namespace) -> blosc2.NDArray:
    """Probabilities as compressed bytes, uint8 K D H W, as the stage predict keeps them."""
    window = window_of(options)

    def read(start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
        box = tuple(slice(low, low + side) for low, side in zip(start, shape, strict=True))
        return image[box]

    slabs = predict_slabs(fastest(network, options), read, image.shape, options.rois, window)
    return kept_compressed(slabs, image.shape, options.rois, window.shape[0])


def whole_case(folder: Path, network: nn.Module, options: argparse.Namespace) -> np.ndarray:
    """ROI bits on the original grid, D H W; `folder` has the volume."""
    rois = tuple(f"roi_{number}" for number in range(options.rois))
    volume, window, path = open_volume(folder), window_of(options), folder / "case.nii.gz"
    places = [
        window_starts(length, side, window.overlap) for length, side in zip(volume.shape, window.shape, strict=True)
    ]
    progress = Progress("case", math.prod(map(len, places)), "windows")
    predict_case(fastest(network, options), volume, rois, window, {}, path, progress)
    return read_roi_bits(path)[0][None]


def write_torso(folder: Path, options: argparse.Namespace) -> None:
    """The torso as a volume of 1 mm, whose original grid runs the other way along x and y."""
    shape = tuple(options.shape)
    grid = Geometry(size=shape[::-1], spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    ends = (grid.size[0] - 1.0, grid.size[1] - 1.0, 0.0)
    turned = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
    original = grid.model_copy(update={"origin_mm": ends, "direction": turned})
    record = record_of(grid, original, ("roi",), (), WINDOW_HU)
    write_volume(folder, torso(shape), pack(np.zeros((1, *shape), bool)), record)


@torch.inference_mode()
def with_monai(image: np.ndarray, network: nn.Module, options: argparse.Namespace) -> Tensor:
    """Probabilities, float32 K D H W."""
    device = torch.device(options.device)
    dtype = autocast_type(options.monai_precision or options.precision, device, training=False)
    if not options.constant_network:
        network = OneRoiAfterTheOther(network)

    def predict(images: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return probabilities(network(images))

    inferer = SlidingWindowInferer(
        options.patch,
        options.window_batch_size,
        options.overlap,
        mode="gaussian",
        sigma_scale=GAUSSIAN_WIDTH,
        sw_device=device,
        device=torch.device("cpu"),
    )
    return inferer(torch.from_numpy(scaled(image, WINDOW_HU))[None, None], predict)[0]


def measure(variant: str, options: argparse.Namespace) -> tuple[float, float, int, np.ndarray]:
    """Seconds, processor seconds, bytes, and probabilities of the middle slice of one variant."""
    torch.set_num_threads(options.threads)
    network = network_of(options)
    image = Path(options.volume) if variant == "case" else torso(tuple(options.shape))
    infer = {"lacuna": with_lacuna, "monai": with_monai, "case": whole_case}[variant]
    before = memory(options.device)
    started, busy = time.perf_counter(), time.process_time()
    found = infer(image, network, options)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    middle = np.asarray(found[:, options.shape[0] // 2])
    as_floats = middle / np.float32(255) if middle.dtype == np.uint8 else middle
    return seconds, busy, memory(options.device) - before, as_floats


def memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--shape", type=int, nargs=3, default=[96, 128, 160], metavar=("D", "H", "W"))
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 64, 64], metavar=("D", "H", "W"))
    parser.add_argument("--feature-size", type=int, default=12)
    parser.add_argument("--rois", type=int, default=11)
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--window-batch-size", type=int, default=2)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--monai-precision", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--flip-tta", action="store_true", help="average over mirrored windows (not with monai)")
    parser.add_argument("--constant-network", action="store_true")
    parser.add_argument("--only", choices=["lacuna", "monai", "case"])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.flip_tta and options.only in (None, "monai"):
        parser.error("--flip-tta needs --only lacuna or --only case")
    with tempfile.TemporaryDirectory() as folder:
        options.volume = folder
        if options.only == "case":
            write_torso(Path(folder), options)
        compare(options)


def compare(options: argparse.Namespace) -> None:
    spawning = multiprocessing.get_context("spawn")
    found = {}
    print(f"| {options.device}, {options.precision} | s | processor s | MiB |\n|---|---|---|---|")
    for variant in (options.only,) if options.only else ("lacuna", "monai"):
        # As `stages/command.py` does for every stage, and a plain script does not.
        os.environ["THP_MEM_ALLOC_ENABLE"] = "0" if variant == "monai" else "1"
        with ProcessPoolExecutor(1, spawning) as process:
            found[variant] = process.submit(measure, variant, options).result()
        seconds, busy, size, _ = found[variant]
        print(f"| {variant} | {seconds:.1f} | {busy:.1f} | {size / 2**20:.0f} |", flush=True)
    if len(found) == 2:
        *ours, middle = found["lacuna"]
        *theirs, other_middle = found["monai"]
        ratios = " | ".join(f"{their / our:.2f}" for their, our in zip(theirs, ours, strict=True))
        print(f"| monai / lacuna | {ratios} |")
        print(f"\nmean difference of a probability in the middle slice: {np.abs(middle - other_middle).mean():.5f}")


if __name__ == "__main__":
    main()
