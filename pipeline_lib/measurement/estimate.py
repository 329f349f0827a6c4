"""Peak memory, arithmetic and memory traffic of a training step, reckoned with fake tensors: no GPU is needed.

The steps of steps.py are taken with PyTorch's fake tensors, which have shapes and no values: which tensors live at
once, how many products are made, and what each operation reads and writes can so be told anywhere. For a GPU, attention
and the dynamic head are taken as what it has for them. Each operation takes at least what its products take at the
card's full rate, and what its tensors take at its full bandwidth; the sum of the longer of both is a bound that no step
goes below (caches between operations aside). For a GPU, the copies that cuDNN's convolutions make of their tensors are
in the memory, and what autocast computes in float32 there is in both. Not in it: starting kernels, other workspaces,
what the allocator leaves unused, and the counts for the history. Compared with measurements on an H100, the memory
was 0 to 5 % too high (docs/performance.md). Two ROIs of each sample are labelled; a fifth of the rest is positive, a
tenth negative and the others are ambiguous.
"""

from __future__ import annotations

import functools
import gc
import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, NamedTuple
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.flop_counter import register_flop_formula

from ..data.batches import Batch
from ..methods.latent_class import task as latent_class
from ..networks import generated_layers
from ..networks.swin_unetr import window_attention
from ..training.distributed import Distributed
from . import plain_step, steps
from .counting import Call, LiveTensors, Rates, Traffic, cudnn_workspace
from .sizes import StepSizes

DeviceType = Literal["cpu", "cuda"]
_CPU = torch.device("cpu")
_LABELLED, _POSITIVE, _NEGATIVE = 2, 0.2, 0.1


class Estimate(NamedTuple):
    """Bytes at the peak of a step, and its operations.

    `gradients` are the bytes of the gradients, which live through forward passes too where the batch has several parts.
    """

    peak: int
    calls: tuple[Call, ...]
    gradients: int

    @property
    def operations(self) -> float:
        """Floating point operations."""
        return sum(call.operations for call in self.calls)

    @property
    def moved(self) -> float:
        """Bytes read and written."""
        return sum(call.moved for call in self.calls)

    def seconds(self, rates: Rates) -> float:
        """A bound: no step is faster on a card with these rates."""
        return sum(call.seconds(rates) for call in self.calls)


@functools.cache
def estimate(variant: Literal["plain", "ours"], sizes: StepSizes, device: DeviceType) -> Estimate:
    """Reckon the second step of a variant, when the optimiser has its moments, as on a `device` of this type.

    ValueError if the parts of the batch are not equal. Not to be used by several threads: it replaces functions of
    PyTorch while it runs.
    """
    parts = sizes.execution.parts
    if sizes.batch_size % parts:
        raise ValueError(f"{parts} parts of a batch of {sizes.batch_size} are not equal")
    sizes = _as_on(sizes, device)
    workspace = cudnn_workspace if device == "cuda" else None
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    try:
        with fake, _quietly(), _stand_ins(sizes, device) as built, LiveTensors(workspace) as live:
            step = steps.our_step(sizes, _Alone(0, 1, _CPU)) if variant == "ours" else steps.their_step(sizes, _CPU)
            crops: list[Any] = list(range(sizes.batch_size))
            step(0, crops)
            live.start()
            with Traffic() as traffic:
                step(1, crops)
    finally:
        gc.unfreeze()
    return Estimate(live.peak, tuple(traffic.calls), built[-1])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's warning of fake tensors whose address is asked for, as its own code does when it converts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        yield


def _as_on(sizes: StepSizes, device: DeviceType) -> StepSizes:
    """What `auto` means on the device, said to a process that has another one."""
    chosen: dict[str, Any] = {"device": "cpu"}
    if device == "cuda":
        execution = sizes.execution
        chosen["precision"] = "bfloat16" if execution.precision == "auto" else execution.precision
        auto = execution.gradient_checkpointing == "auto"
        chosen["gradient_checkpointing"] = "transformer" if auto else execution.gradient_checkpointing
        chosen["memory_format"] = "contiguous"
    return StepSizes(**{**vars(sizes), "execution": sizes.execution.model_copy(update=chosen)})


@torch.library.custom_op("lacuna::head", mutates_args=())
def _head(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    """The Triton kernels of networks/fused_layers.py: what they read and write."""
    raise NotImplementedError("fake tensors only")


@torch.library.custom_op("lacuna::head_backward", mutates_args=())
def _head_backward(grad_output: Tensor, features: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    raise NotImplementedError("fake tensors only")


@_head.register_fake
def _(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    return features.new_empty(*parameters.shape[:2], maps, features.shape[2])


@_head_backward.register_fake
def _(grad_output: Tensor, features: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(parameters)


_head.register_autograd(
    lambda context, grad_output: (*_head_backward(grad_output, *context.saved_tensors), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2]),
)


@register_flop_formula(torch.ops.lacuna.head)
def _(features: Any, parameters: Any, maps: int, *_: Any, **__: Any) -> int:
    return 2 * parameters[0] * parameters[1] * parameters[2] * features[2]


@register_flop_formula(torch.ops.lacuna.head_backward)
def _(grad_output: Any, features: Any, parameters: Any, *_: Any, **__: Any) -> int:
    # The hidden layers again, in each of two kernels, and two products for each of forward's.
    return 4 * 2 * parameters[0] * parameters[1] * parameters[2] * features[2]


def _attention_of_a_gpu(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, scale: float) -> Tensor:
    """What `scaled_dot_product_attention` takes there under a bias, whose rows it makes start at multiples of 8."""
    if attn_mask.stride(-1) != 1:
        raise ValueError("torch would take no fused kernel: the bias does not lie in memory row by row")
    N = attn_mask.shape[-1]
    aligned = F.pad(attn_mask, (0, -N % 8))[..., :N].expand(len(query), -1, -1, -1)
    keep = torch.is_grad_enabled()
    return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, aligned, keep, scale=scale)[0]


def _in_float32(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A norm as autocast computes it on a GPU, and not on a CPU: from a copy in float32, with an output in float32."""

    def in_float32(values: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return norm(values.float() if torch.is_autocast_enabled("cpu") else values, *arguments, **named)

    return in_float32


class _FakeViewMaker:
    """In the place of `ViewMaker`: batches of the right shapes, nothing read or augmented."""

    def __init__(self, sizes: StepSizes) -> None:
        self.patch, self.rois = sizes.patch, sizes.rois

    def batch(self, regions: Sequence[Any]) -> Batch:
        B, K = len(regions), self.rois
        weak, strong = (torch.zeros(B, 1, *self.patch) for _ in range(2))
        planes = torch.zeros(B, -(-K // 8), *self.patch, dtype=torch.uint8)
        return Batch(("",) * B, weak, strong, planes, torch.zeros(B, K, dtype=torch.bool), torch.zeros(B, K))


class _Alone(Distributed):
    """One process, whose report says that nothing is broken and nobody asks to stop."""

    def all_reduce(self, values: Tensor) -> Any:
        return mock.Mock(tolist=lambda: [0.0] * values.numel())


def _kinds(batch: int, rois: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ROIs of which samples are labelled (bool B K), and scores that decide about the others (float B K)."""
    labelled, scores = np.zeros((batch, rois), bool), np.full((batch, rois), 0.5)
    labelled[:, :_LABELLED] = True
    rest = np.flatnonzero(~labelled)
    scores.flat[rest[: round(len(rest) * _POSITIVE)]] = 1
    scores.flat[rest[len(rest) - round(len(rest) * _NEGATIVE) :]] = 0
    return labelled, scores


@contextmanager
def _stand_ins(sizes: StepSizes, device: DeviceType) -> Iterator[list[int]]:
    """What fake tensors cannot do is done for them; for a GPU, what a CPU would do is replaced.

    MONAI's networks ask for values while they are built, so they are built for real first and become fake as copies.
    Gives the bytes of each network's parameters, the one that is trained last.
    """
    built: list[int] = []

    def faked(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        def build_fake(*arguments: Any) -> nn.Module:
            with unset_fake_temporarily():
                network = build(*arguments)
            built.append(sum(parameter.nbytes for parameter in network.parameters()))
            # A conversion that changes nothing, but that what comes out of it is fake; a second one would fail.
            network._apply(torch.clone)
            network.to = lambda *where, **how: network
            return network

        return build_fake

    def real_embeddings(sizes: StepSizes) -> Tensor:
        with unset_fake_temporarily():
            return made_embeddings(sizes)

    made_embeddings = steps.embeddings_of
    labelled, scores = _kinds(sizes.part_size, sizes.rois)
    ambiguous = ~labelled & (scores == 0.5)
    # The three terms, each of which asks three times which pairs of a sample and a ROI it selects.
    selected = itertools.cycle(
        int(mask.sum()) for mask in (labelled, ~labelled & ~ambiguous, ambiguous) for _ in range(3)
    )

    def nonzero(mask: Tensor) -> Tensor:
        return torch.zeros(next(selected), mask.ndim, dtype=torch.int64)

    losses = plain_step.plain_losses

    def losses_of_known_kinds(logits: Tensor, teacher: Tensor, labels: Tensor, *unknown: Any) -> Tensor:
        return losses(logits, teacher, labels, labelled, scores, steps.METHOD)

    replaced: list[tuple[Any, str, Any]] = [
        (steps, "view_maker_of", lambda sizes, device: _FakeViewMaker(sizes)),
        (steps, "embeddings_of", real_embeddings),
        (steps, "build_segmentation_network", faked(steps.build_segmentation_network)),
        (steps, "build_roi_aware_network", faked(steps.build_roi_aware_network)),
        (plain_step, "PlainNetwork", faked(plain_step.PlainNetwork)),
        (plain_step, "plain_losses", losses_of_known_kinds),
        (Tensor, "nonzero", nonzero),
        (latent_class, "label_counts", lambda logits, batch: {"labelled": batch.labelled}),
        (torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True),
    ]
    if device == "cuda":
        replaced += [
            (generated_layers, "_in_chunks", _head),
            (window_attention, "attention", window_attention.fused_attention),
            (F, "scaled_dot_product_attention", _attention_of_a_gpu),
            (F, "group_norm", _in_float32(F.group_norm)),
            (F, "layer_norm", _in_float32(F.layer_norm)),
        ]
    with ExitStack() as stack:
        for place, name, stand_in in replaced:
            stack.enter_context(mock.patch.object(place, name, stand_in))
        yield built
