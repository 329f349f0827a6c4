"""The three 1×1×1 layers of the dynamic head, different for each sample and head, applied to every voxel."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from ..progress import say
from .head_parameters import WIDTH, parameter_count, split_parameters
from .precision import precision_of_products
from .recomputing import recomputed

# What a processor's caches hold (measured by benchmarks/dynamic_head.py); on a GPU, where launching many small
# kernels costs more, 128 MiB of float32 (reckoned, not measured).
_HIDDEN_VALUES_PER_CHUNK = {"cpu": 2**20, "cuda": 2**25}
# Each chunk is a part of an exported graph, which should not have thousands.
_HIDDEN_VALUES_PER_EXPORTED_CHUNK = 2**25
_FUSED_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
# The maps of two heads share a tile of 16 columns.
_MOST_FUSED_MAPS = 8
_FUSED_AGREES_WITHIN = 0.01  # of the largest value

Layers = Callable[[Tensor, Tensor, int], Tensor]


def generated_layers(features: Tensor, parameters: Tensor, maps: int, fused: bool = True) -> Tensor:
    """Apply N generated 8-8-`maps` heads to every sample: features B 8 D H W, parameters B N P → B N `maps` D H W.

    The hidden layers (N·8 channels) would take N times the memory of the features, so backward makes them again. On a
    GPU they do not go through memory at all (fused_layers.py), if `fused` and if that works there; elsewhere all heads
    of all samples are one batched matrix product per layer, for some voxels at a time.
    """
    flat = features.flatten(2)
    device, precision = flat.device, precision_of_products(flat)
    layers = None
    if fused and may_be_fused(device.type, precision, maps, torch.compiler.is_compiling()):
        layers = fused_layers_on(device, precision, maps)
    return (layers or _in_chunks)(flat, parameters, maps).unflatten(3, features.shape[2:])


def may_be_fused(device_type: str, precision: torch.dtype, maps: int, compiling: bool) -> bool:
    """Whether there are Triton kernels for this; while torch.compile traces a network they would stop it."""
    return device_type == "cuda" and precision in _FUSED_PRECISIONS and maps <= _MOST_FUSED_MAPS and not compiling


@functools.cache
def fused_layers_on(device: torch.device, precision: torch.dtype, maps: int) -> Layers | None:
    """`fused_layers` where it runs on `device` and agrees with `plain_layers`; None and a line that says why elsewhere.

    Triton needs a C compiler and a GPU that it knows, and compiles when it is first called: that is tried here, on a
    few voxels, forward and backward.
    """
    try:
        from .fused_layers import fused_layers

        one_sum = functools.partial(fused_layers, most_sums=1)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            # Sizes that divide by 16, as those of patches, are compiled apart; one program for all tiles loops.
            error = max(
                disagreement(layers, device, precision, maps, voxels)
                for layers, voxels in ((fused_layers, 300), (one_sum, 304))
            )
        if not error <= _FUSED_AGREES_WITHIN:
            raise ArithmeticError(f"off by {error:.2g} of the largest value")
    except Exception as error:  # a missing compiler, an unknown GPU, …: whatever it is, the plain layers do
        say(
            f"{device}: the dynamic head's Triton kernels do not work here ({_told(error)}), so plain products are used"
        )
        return None
    return fused_layers


def _told(error: Exception) -> str:
    """An error in a line. Triton says last what is wrong with a kernel, CUDA and compilers say it first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no reason given"]
    name = type(error).__name__
    return f"{name}: {lines[-1] if name == 'CompilationError' else lines[0]}"


def disagreement(layers: Layers, device: torch.device, precision: torch.dtype, maps: int, voxels: int) -> float:
    """How far logits or a gradient of `layers` are off `plain_layers`' in float32, as a share of the largest value.

    Made of −1, 0 and 1, so that all hidden values are whole numbers below 74, which every precision holds exactly:
    where rounding could lift one of them above zero, gradients would differ with nothing being wrong.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randint(-1, 2, shape, generator=generator).to(device, torch.float32)

    B, N = 2, 3
    features, parameters = drawn(B, WIDTH, voxels), drawn(B, N, parameter_count(maps))
    grad_output = drawn(B, N, maps, voxels)
    results = []
    for compute, dtype in ((plain_layers, torch.float32), (layers, precision)):
        inputs = [values.clone().to(dtype).requires_grad_() for values in (features, parameters)]
        logits = compute(*inputs, maps)
        logits.backward(grad_output.to(logits.dtype))
        results.append([result.float() for result in (logits.detach(), *(values.grad for values in inputs))])
    return max(
        ((found - expected).abs().max() / expected.abs().max()).item() for expected, found in zip(*results, strict=True)
    )


def _in_chunks(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    B, N, _ = parameters.shape
    exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()
    most = _HIDDEN_VALUES_PER_EXPORTED_CHUNK if exporting else _HIDDEN_VALUES_PER_CHUNK[features.device.type]
    voxels = max(1, most // (B * N * WIDTH))
    chunks = [recomputed(plain_layers, chunk, parameters, maps) for chunk in features.split(voxels, dim=2)]
    return torch.cat(chunks, dim=3)


def plain_layers(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    """Three generated layers on some voxels: features B 8 V, parameters B N P → B N `maps` V."""
    B, N, _ = parameters.shape
    first, first_bias, second, second_bias, last, last_bias = split_parameters(parameters, maps)
    # Every head of a sample reads the same 8 features, so the first layer is one (N·8)×8 matrix per sample.
    hidden = torch.baddbmm(first_bias.reshape(B, N * WIDTH, 1), first.reshape(B, N * WIDTH, WIDTH), features)
    hidden = hidden.relu_().reshape(B * N, WIDTH, -1)
    hidden = torch.baddbmm(second_bias.reshape(B * N, WIDTH, 1), second.reshape(B * N, WIDTH, WIDTH), hidden)
    hidden = hidden.relu_()
    logits = torch.baddbmm(last_bias.reshape(B * N, maps, 1), last.reshape(B * N, maps, WIDTH), hidden)
    return logits.reshape(B, N, maps, -1)
