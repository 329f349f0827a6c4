"""Layers of our own against the same in float64, forward and backward, in each precision that the device has."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..networks import generated_layers
from ..networks.head_parameters import WIDTH, parameter_count, parameter_sizes
from ..networks.instance_norm import InstanceNorm
from ..networks.precision import multiplies_bfloat16
from ..networks.swin_unetr import window_attention
from .rows import Row, absent, failed, judged

_MOST_ERROR = {torch.float32: 2e-5, torch.bfloat16: 0.04, torch.float16: 0.006}
"""Share of the largest value: a few roundings. A wrong kernel is off by a tenth at least."""
_WINDOWS, _HEADS, _TOKENS, _CHANNELS = 4, 3, 343, 16
Function = Callable[..., Tensor]


def check_kernels(device: torch.device) -> Iterator[Row]:
    """A row for each layer and precision."""
    for precision in precisions(device):
        for name, mine, reference, inputs in _cases():
            what = f"{name}, {_name(precision)}"
            try:
                error = largest_error(mine, reference, inputs, device, precision)
                yield judged(what, error <= _MOST_ERROR[precision], f"off by {error:.1e} of the largest value")
            except Exception as error:
                yield failed(what, error)
    yield from _fused_head(device)


def precisions(device: torch.device) -> list[torch.dtype]:
    """Those that the hardware multiplies, not those that it would emulate."""
    if device.type == "cpu":
        return [torch.float32, torch.bfloat16] if multiplies_bfloat16(device) else [torch.float32]
    half = [torch.bfloat16] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return [torch.float32, *half, torch.float16]


def largest_error(
    mine: Function, reference: Function, inputs: Sequence[Tensor], device: torch.device, precision: torch.dtype
) -> float:
    """How far the output or a gradient of `mine` is off `reference`'s in float64, as a share of the largest value."""
    given = [values.to(device, precision) for values in inputs]
    results, grad_output = [], None
    for function, dtype in ((reference, torch.float64), (mine, precision)):
        leaves = [values.detach().to(dtype).requires_grad_() for values in given]
        output = function(*leaves)
        if grad_output is None:
            grad_output = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(device, precision)
        gradients = torch.autograd.grad(output, leaves, grad_output.to(output.dtype))
        results.append([output.detach().double(), *(each.double() for each in gradients)])
    errors = [(found - true).abs().max() / true.abs().max() for true, found in zip(*results, strict=True)]
    # What is not a number is wrong, and would be lost in a maximum.
    return max(error.item() if error.isfinite() else torch.inf for error in errors)


def _cases() -> Iterator[tuple[str, Function, Function, list[Tensor]]]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    yield "InstanceNorm", _instance_norm, _plain_instance_norm, [3 * drawn(2, 12, 8, 12, 10) + 1, drawn(12), drawn(12)]
    tokens = [drawn(_WINDOWS, _HEADS, _TOKENS, _CHANNELS) for _ in range(3)]
    yield "attention", _attention, _plain_attention, [*tokens, drawn(_HEADS, _TOKENS, _TOKENS)]
    # Whole numbers, for which no rounding lifts a hidden value above zero: gradients would differ with nothing wrong.
    shapes = (2, WIDTH, 8, 8, 12), (2, 5, parameter_count(1))
    features, parameters = (torch.randint(-1, 2, shape, generator=generator).float() for shape in shapes)
    yield "dynamic head, plain products", _head, _plain_head, [features, parameters]


def _instance_norm(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    norm = InstanceNorm(nn.InstanceNorm3d(len(weight), affine=True))
    # A training keeps its weights in float32.
    return torch.func.functional_call(norm, {"weight": weight.float(), "bias": bias.float()}, (values,))


def _plain_instance_norm(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    mean = values.mean((2, 3, 4), keepdim=True)
    variance = (values - mean).square().mean((2, 3, 4), keepdim=True)
    normed = (values - mean) / (variance + 1e-5).sqrt()
    return normed * weight[:, None, None, None] + bias[:, None, None, None]


def _attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return window_attention.attention(query, key, value, bias, _CHANNELS**-0.5)


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return torch.softmax(query @ key.mT * _CHANNELS**-0.5 + bias, 3) @ value


def _head(features: Tensor, parameters: Tensor) -> Tensor:
    return generated_layers.generated_layers(features, parameters, 1, fused=False)


def _plain_head(features: Tensor, parameters: Tensor) -> Tensor:
    """One head of one sample after the other."""
    samples = []
    for sample, of_sample in zip(features, parameters, strict=True):
        heads = []
        for row in of_sample:
            first, first_bias, second, second_bias, last, last_bias = row.split(parameter_sizes(1))
            hidden = torch.einsum("oi,idhw->odhw", first.view(WIDTH, WIDTH), sample) + first_bias.view(-1, 1, 1, 1)
            hidden = torch.einsum("oi,idhw->odhw", second.view(WIDTH, WIDTH), hidden.relu())
            hidden = (hidden + second_bias.view(-1, 1, 1, 1)).relu()
            heads.append(torch.einsum("oi,idhw->odhw", last.view(1, WIDTH), hidden) + last_bias.view(-1, 1, 1, 1))
        samples.append(torch.stack(heads))
    return torch.stack(samples)


def _fused_head(device: torch.device) -> Iterator[Row]:
    """The Triton kernels: on a GPU compiled, on a CPU by Triton's interpreter, to which NumPy gives no bfloat16."""
    title = "dynamic head, Triton kernels"
    if importlib.util.find_spec("triton") is None:
        yield absent(title, "Triton is not installed")
        return
    interpreted = device.type == "cpu"
    if interpreted and os.environ.get("TRITON_INTERPRET") != "1":
        yield absent(title, "needs a GPU, or TRITON_INTERPRET=1 from the start")
        return
    how, sizes = (" (interpreter)", (300,)) if interpreted else ("", (300, 304, 2**18))
    for precision in [torch.float32, torch.float16] if interpreted else precisions(device):
        what = f"{title}{how}, {_name(precision)}"
        try:
            from ..networks.fused_layers import fused_layers

            error = max(generated_layers.disagreement(fused_layers, device, precision, 1, each) for each in sizes)
            limit = _MOST_ERROR[precision]
            yield judged(what, error <= limit, f"off by {error:.1e} of the largest value")
        except Exception as error:
            yield failed(what, error)
    if device.type == "cuda":
        for precision in precisions(device):
            used = generated_layers.fused_layers_on(device, precision, 1) is not None
            found = "taken" if used else "refused at the start: plain products are used, which is slower"
            yield judged(f"{title} in a training, {_name(precision)}", used, found)


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
