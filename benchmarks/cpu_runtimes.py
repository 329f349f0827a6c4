"""One window pass of a network on one core of a CPU: PyTorch against ONNX Runtime, OpenVINO and compiled PyTorch.

    python benchmarks/cpu_runtimes.py
    python benchmarks/cpu_runtimes.py --runtimes pytorch onnxruntime --feature-size 24 --patch 32 64 64
    python benchmarks/cpu_runtimes.py --onnx network.onnx        # writes it, or takes what is there

The network is SwinUNETR with the text-conditioned head and random weights, as `lacuna export --onnx` writes it. Rows
take turns, so that other work on the machine hits all alike; a row's number is the median of its processor seconds, and
`of pytorch` that of the paired ratios. Differences are those of probabilities from PyTorch's in float32, and the share
of voxels and ROIs whose mask is another; `ready in` is what building or loading took. Needs the packages onnx,
onnxscript and onnxruntime; openvino for its rows.

- pytorch: the form in which `lacuna predict` computes, in float32; pytorch bfloat16: what it takes by itself where the
  processor multiplies bfloat16;
- onnxruntime: in float32; openvino: as `lacuna predict --runtime openvino`, in float32 and in bfloat16;
- onnxruntime int8: matrix products with weights and values of 8 bits, quantised as they come;
- compiled: torch.compile in float32 (needs a C++ compiler; its compiling is not counted).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline_lib.networks.build import build_segmentation_network
from pipeline_lib.networks.probabilities import probabilities
from pipeline_lib.networks.swin_unetr.settings import SwinUnetr
from pipeline_lib.prediction.onnx_graph import write_graph
from pipeline_lib.prediction.openvino_runtime import OpenVinoNetwork

Pass = Callable[[np.ndarray], np.ndarray]
CPU = torch.device("cpu")


def network(options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    sizes = SwinUnetr(kind="swin_unetr", feature_size=options.feature_size)
    rois = [f"roi_{number}" for number in range(options.rois)]
    built = build_segmentation_network(sizes, torch.randn(options.rois, 512), rois)
    return built.eval().requires_grad_(False)


def in_pytorch(options: argparse.Namespace, precision: torch.dtype, compiled: bool = False) -> Pass:
    module = network(options).for_prediction(CPU, precision)
    if compiled:
        module = torch.compile(module)

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = module(torch.from_numpy(image))
        return probabilities(logits).numpy()

    return run


def in_onnxruntime(options: argparse.Namespace, onnx: Path, int8: bool = False) -> Pass:
    import onnxruntime

    if int8:
        from onnxruntime.quantization import quantize_dynamic

        quantised = onnx.with_name(f"{onnx.stem}_int8.onnx")
        quantize_dynamic(onnx, quantised, op_types_to_quantize=["MatMul", "Gemm"])
        onnx = quantised
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx), settings, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def in_openvino(options: argparse.Namespace, precision: torch.dtype) -> Pass:
    module = OpenVinoNetwork(network(options), probabilities, tuple(options.patch), precision)
    return lambda image: module(torch.from_numpy(image)).numpy()


RUNTIMES: dict[str, Callable[[argparse.Namespace, Path], Pass]] = {
    "pytorch": lambda options, onnx: in_pytorch(options, torch.float32),
    "pytorch bfloat16": lambda options, onnx: in_pytorch(options, torch.bfloat16),
    "onnxruntime": in_onnxruntime,
    "onnxruntime int8": lambda options, onnx: in_onnxruntime(options, onnx, int8=True),
    "openvino": lambda options, onnx: in_openvino(options, torch.float32),
    "openvino bfloat16": lambda options, onnx: in_openvino(options, torch.bfloat16),
    "compiled": lambda options, onnx: in_pytorch(options, torch.float32, compiled=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES)[:-1])
    parser.add_argument("--feature-size", type=int, default=48)
    parser.add_argument("--rois", type=int, default=11)
    parser.add_argument("--patch", type=int, nargs=3, default=(64, 64, 64), metavar=("D", "H", "W"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onnx", type=Path, help="where the graph is kept (default: nowhere)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape = (1, 1, *options.patch)
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        onnx = options.onnx or Path(folder) / "network.onnx"
        if not onnx.exists() and any("onnx" in name for name in options.runtimes):
            write_graph(network(options), probabilities, shape, onnx)
        measure(options, onnx, image)


def measure(options: argparse.Namespace, onnx: Path, image: np.ndarray) -> None:
    names = list(dict.fromkeys(["pytorch", *options.runtimes]))
    passes, ready = {}, {}
    for name in names:
        started = time.process_time()
        passes[name] = RUNTIMES[name](options, onnx)
        ready[name] = time.process_time() - started
    found = {name: run(image) for name, run in passes.items()}  # warm, and compiled
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, run in passes.items():
            started = time.process_time()
            run(image)
            seconds[name].append(time.process_time() - started)
    print(
        f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; processor s, {options.rounds} rounds"
    )
    for name in names:
        ratio = statistics.median(one / base for one, base in zip(seconds[name], seconds["pytorch"], strict=True))
        off = np.abs(found[name] - found["pytorch"]).max()
        other = ((found[name] >= 0.5) != (found["pytorch"] >= 0.5)).mean()
        print(f"{name:18} {statistics.median(seconds[name]):6.2f} s, {ratio:5.2f} of pytorch", end="; ")
        print(f"off by {off:.1e} at most, {100 * other:.4f} % of masks' voxels; ready in {ready[name]:.0f} s")


if __name__ == "__main__":
    main()
