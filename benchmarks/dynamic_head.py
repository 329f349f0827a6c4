"""Time and peak memory of the dynamic head's generated layers: a loop, all at once, and in recomputed chunks.

    python benchmarks/dynamic_head.py --device cpu --patch 32 64 64 --batch 2 --rois 11
    python benchmarks/dynamic_head.py --device cuda --patch 96 160 160 --batch 3 --rois 11 --precision bfloat16

Each row is one forward and backward of features B 8 D H W under parameters B K 153:

- loop: as DoDNet's and the Universal Model's public code, one grouped convolution of all ROIs per sample;
- at once: one batched matrix product per layer, every hidden value kept for backward;
- chunks of 2^n: the same on some voxels at a time, with 2^n hidden values each, recomputed in backward;
- fused (cuda): the Triton kernels, which keep hidden layers in registers.

Memory is the highest of the process (cpu) or of torch's allocator (cuda), less what the inputs take.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline_lib.networks import generated_layers
from pipeline_lib.networks.head_parameters import WIDTH, parameter_count


def loop(features: Tensor, parameters: Tensor) -> Tensor:
    """One grouped convolution per layer and sample."""
    B, K, _ = parameters.shape
    weights, biases = WIDTH * WIDTH, WIDTH
    logits = []
    for b in range(B):
        first, first_bias, second, second_bias, last, last_bias = parameters[b].split(
            [weights, biases, weights, biases, WIDTH, 1], dim=1
        )
        values = features[b : b + 1].repeat(1, K, 1, 1, 1)
        values = F.conv3d(values, first.reshape(K * WIDTH, WIDTH, 1, 1, 1), first_bias.flatten(), groups=K).relu()
        values = F.conv3d(values, second.reshape(K * WIDTH, WIDTH, 1, 1, 1), second_bias.flatten(), groups=K).relu()
        logits.append(F.conv3d(values, last.reshape(K, WIDTH, 1, 1, 1), last_bias.flatten(), groups=K))
    return torch.cat(logits)


def at_once(features: Tensor, parameters: Tensor) -> Tensor:
    logits = generated_layers.plain_layers(features.flatten(2), parameters, 1)
    return logits.squeeze(2).unflatten(2, features.shape[2:])


def in_chunks(features: Tensor, parameters: Tensor) -> Tensor:
    return generated_layers.generated_layers(features, parameters, 1, fused=False).squeeze(2)


def fused(features: Tensor, parameters: Tensor) -> Tensor:
    return generated_layers.generated_layers(features, parameters, 1).squeeze(2)


def measure(variant: str, options: argparse.Namespace, results: multiprocessing.Queue) -> None:
    """Put (seconds, bytes) of one variant into `results`; runs in a process of its own for the memory's sake."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if variant.startswith("chunks"):
        generated_layers._HIDDEN_VALUES_PER_CHUNK[options.device] = 2 ** int(variant.rpartition("^")[2])
    layers = {"loop": loop, "at once": at_once, "fused": fused}.get(variant, in_chunks)
    device = torch.device(options.device)
    features = torch.randn(options.batch, WIDTH, *options.patch, device=device, requires_grad=True)
    parameters = torch.randn(options.batch, options.rois, parameter_count(1), device=device) / 3
    parameters.requires_grad_()
    grad_output = torch.randn(options.batch, options.rois, *options.patch, device=device)
    dtype = getattr(torch, options.precision)

    # On a CPU processor time, which neighbours on the machine disturb less.
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def step(sides: tuple[int, int, int]) -> float:
        D, H, W = sides
        started = clock()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = layers(features[..., :D, :H, :W], parameters)
        logits.backward(grad_output[..., :D, :H, :W].to(logits.dtype))
        if device.type == "cuda":
            torch.cuda.synchronize()
        features.grad = parameters.grad = None
        return clock() - started

    step((2, 2, 2))
    before = memory(device)
    seconds = [step(options.patch) for _ in range(options.repeats + 1)]
    results.put((statistics.median(seconds[1:]), memory(device) - before))


def memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 64, 64], metavar=("D", "H", "W"))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rois", type=int, default=11)
    parser.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    spawning = multiprocessing.get_context("spawn")
    print(f"| {options.device}, {options.precision} | ms | MiB |\n|---|---|---|")
    variants = ["loop", "at once", *(f"chunks of 2^{power}" for power in range(14, 27, 2))]
    if options.device == "cuda":
        variants.append("fused")
    for variant in variants:
        results = spawning.Queue()
        process = spawning.Process(target=measure, args=(variant, options, results))
        process.start()
        seconds, size = results.get()
        process.join()
        print(f"| {variant} | {1000 * seconds:.0f} | {size / 2**20:.0f} |", flush=True)


if __name__ == "__main__":
    main()
