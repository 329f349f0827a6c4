"""The three 1×1×1 layers of the dynamic head, other ones for each sample and each head, applied to every voxel."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..progress import say
from .recomputing import recomputed

WIDTH = 8
"""Channels of both hidden layers (DoDNet and the Universal Model)."""

# What a processor's caches hold (measured by benchmarks/dynamic_head.py); on a GPU, where launching many small
# kernels costs more, 128 MiB of float32 (reckoned, not measured).
_HIDDEN_VALUES_PER_CHUNK = {"cpu": 2**20, "cuda": 2**25}
_FUSED_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
# Two heads share a tile of 16 columns.
_MOST_FUSED_MAPS = 8
_FUSED_AGREES_WITHIN = 0.01  # of the largest value

Layers = Callable[[Tensor, Tensor, int], Tensor]


def parameter_count(maps: int) -> int:
    """Parameters of one 8-8-`maps` head: 153 for one map, 162 for two."""
    return 2 * (WIDTH * WIDTH + WIDTH) + WIDTH * maps + maps


def generated_layers(features: Tensor, parameters: Tensor, maps: int, fused: bool = True) -> Tensor:
    """Apply N generated 8-8-`maps` heads to every sample: features B 8 D H W, parameters B N P → B N `maps` D H W.

    The hidden layers (N·8 channels) would take N times the memory of the features, so backward makes them again. On a
    GPU they do not go through memory at all (fused_layers.py), if `fused` and if that works there; elsewhere all heads
    of all samples are one batched matrix product per layer, for some voxels at a time.
    """
    flat = features.flatten(2)
    # What torch.compile is to fuse must not be hidden from it.
    if fused and flat.is_cuda and maps <= _MOST_FUSED_MAPS and not torch.compiler.is_compiling():
        layers = fused_layers_on(flat.device, _precision(flat), maps)
    else:
        layers = None
    return (layers or _in_chunks)(flat, parameters, maps).unflatten(3, features.shape[2:])


@functools.cache
def fused_layers_on(device: torch.device, precision: torch.dtype, maps: int) -> Layers | None:
    """`fused_layers` where it runs on `device` and agrees with `plain_layers`; None and a line that says why elsewhere.

    Triton needs a C compiler and a GPU that it knows, and compiles when it is first called: that is tried here, on a
    few voxels, forward and backward.
    """
    if precision not in _FUSED_PRECISIONS:
        return None
    try:
        from .fused_layers import fused_layers

        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            error = _disagreement(fused_layers, device, precision, maps)
        if not error <= _FUSED_AGREES_WITHIN:
            raise ArithmeticError(f"it is off by {error:.2g} of the largest value")
    except Exception as error:  # a missing compiler, an unknown GPU, …: whatever it is, the plain layers do
        reason = (str(error).splitlines() or [type(error).__name__])[-1]
        say(f"{device}: the dynamic head's Triton kernel does not work here ({reason}), so plain products are used")
        return None
    return fused_layers


def _disagreement(layers: Layers, device: torch.device, precision: torch.dtype, maps: int) -> float:
    """How far logits or a gradient of `layers` are off `plain_layers`' in float32, as a share of the largest value.

    Made of −1, 0 and 1, so that all hidden values are whole numbers below 74, which every precision holds exactly:
    where rounding could lift one of them above zero, gradients would differ with nothing being wrong.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=generator).to(device, torch.float32)

    B, N, V = 2, 3, 300
    features, parameters, upstream = drawn(B, WIDTH, V), drawn(B, N, parameter_count(maps)), drawn(B, N, maps, V)
    results = []
    for compute, dtype in ((plain_layers, torch.float32), (layers, precision)):
        inputs = [values.clone().to(dtype).requires_grad_() for values in (features, parameters)]
        logits = compute(*inputs, maps)
        logits.backward(upstream.to(logits.dtype))
        results.append([result.float() for result in (logits.detach(), *(values.grad for values in inputs))])
    return max(
        ((found - expected).abs().max() / expected.abs().max()).item() for expected, found in zip(*results, strict=True)
    )


def _precision(features: Tensor) -> torch.dtype:
    """That of products with `features`."""
    kind = features.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype


def _in_chunks(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    B, N, _ = parameters.shape
    voxels = max(1, _HIDDEN_VALUES_PER_CHUNK[features.device.type] // (B * N * WIDTH))
    chunks = [recomputed(plain_layers, chunk, parameters, maps) for chunk in features.split(voxels, dim=2)]
    return torch.cat(chunks, dim=3)


def plain_layers(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    """Three generated layers on some voxels: features B 8 V, parameters B N P → B N `maps` V."""
    B, N, _ = parameters.shape
    weights, biases = WIDTH * WIDTH, WIDTH
    first, first_bias, second, second_bias, last, last_bias = parameters.split(
        [weights, biases, weights, biases, WIDTH * maps, maps], dim=2
    )
    # Every head of a sample reads the same 8 features, so the first layer is one (N·8)×8 matrix per sample.
    hidden = torch.baddbmm(first_bias.reshape(B, N * WIDTH, 1), first.reshape(B, N * WIDTH, WIDTH), features)
    hidden = hidden.relu_().reshape(B * N, WIDTH, -1)
    hidden = torch.baddbmm(second_bias.reshape(B * N, WIDTH, 1), second.reshape(B * N, WIDTH, WIDTH), hidden)
    hidden = hidden.relu_()
    logits = torch.baddbmm(last_bias.reshape(B * N, maps, 1), last.reshape(B * N, maps, WIDTH), hidden)
    return logits.reshape(B, N, maps, -1)
