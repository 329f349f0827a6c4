"""Peak memory, arithmetic and memory traffic of a training step at the paper's size, reckoned without a GPU.

    python benchmarks/reckoned_step.py                             # patch 160×160×96, 11 ROIs, batch 12, bfloat16
    python benchmarks/reckoned_step.py --accumulation 3 --by-operation

The steps of benchmarks/train_step.py, this code's and the plain composition's, are taken with PyTorch's fake tensors,
which have shapes and no values: which tensors live at once, how many products are made, and what each operation reads
and writes can so be told anywhere. Attention and the dynamic head are taken as what a GPU has for them. Each operation
takes at least what its products take at an H100's full rate, and what its tensors take at its full bandwidth; the sum
of the longer of both is a bound that no step goes below (caches between operations aside). Not in it: starting kernels,
the workspaces of a GPU's kernels, what its allocator leaves unused, and the few operations that autocast treats
otherwise on a GPU than on a CPU. Two ROIs of each sample are labelled; a fifth of the rest is positive, a tenth
negative and the others are ambiguous, as in train_step.py, whose options for sizes it shares.
"""

from __future__ import annotations

import argparse
import collections
import gc
import itertools
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args
from unittest import mock

import numpy as np
import plain_step
import torch
import torch.nn.functional as F
import train_step
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula

from pipeline_lib.config.optimisation import Checkpointing
from pipeline_lib.data.batches import Batch
from pipeline_lib.networks import generated_layers
from pipeline_lib.networks.swin_unetr import window_attention
from pipeline_lib.training.distributed import Distributed

CPU = torch.device("cpu")
# Of an H100 SXM, by its data sheet: dense bfloat16 products, and memory.
OPERATIONS_PER_SECOND, BYTES_PER_SECOND = 989e12, 3.35e12
LABELLED, POSITIVE, NEGATIVE = 2, 0.2, 0.1
_CLEARLY_MORE = 1.005  # to collect at every rise would take too long; the peak is at most this much too low


class Reckoned(NamedTuple):
    """Bytes at the peak of a step, its floating point operations, bytes that it moves, and the least seconds."""

    peak: int
    operations: int
    moved: int
    seconds: float


class LiveTensors(TorchDispatchMode):
    """Bytes of all storages that operations have made and nobody has let go of, and the most of them so far."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._let_go, key, size)
        if self.now > _CLEARLY_MORE * self.peak:
            # Fake tensors under autocast end up in cycles, as real ones do not.
            gc.collect()
            self.peak = max(self.peak, self.now)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class Traffic(TorchDispatchMode):
    """Floating point operations, bytes read and written, and the least seconds for both, by operation."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        name = str(function._overloadpacket)
        inputs = {id(each): each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        outputs = [each for each in tree_leaves(made) if isinstance(each, Tensor)]
        storages = {each.untyped_storage()._cdata for each in inputs.values()}
        only_views = not function._schema.is_mutable and all(
            each.untyped_storage()._cdata in storages for each in outputs
        )
        if only_views or "empty" in name or not outputs:
            return made
        formula = flop_registry.get(function._overloadpacket)
        operations = formula(*args, **kwargs, out_val=made) if formula else 0
        # What is expanded, or read in part, is in memory only once.
        moved = sum(
            min(each.numel() * each.itemsize, each.untyped_storage().nbytes()) for each in (*inputs.values(), *outputs)
        )
        row = self.rows[name]
        row[0] += operations
        row[1] += moved
        row[2] += max(operations / OPERATIONS_PER_SECOND, moved / BYTES_PER_SECOND)
        return made


@torch.library.custom_op("reckoned::head", mutates_args=())
def head(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    """The Triton kernels of pipeline_lib/networks/fused_layers.py: what they read and write."""
    raise NotImplementedError("fake tensors only")


@torch.library.custom_op("reckoned::head_backward", mutates_args=())
def head_backward(grad_output: Tensor, features: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    raise NotImplementedError("fake tensors only")


@head.register_fake
def _(features: Tensor, parameters: Tensor, maps: int) -> Tensor:
    return features.new_empty(*parameters.shape[:2], maps, features.shape[2])


@head_backward.register_fake
def _(grad_output: Tensor, features: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features), torch.empty_like(parameters)


head.register_autograd(
    lambda context, grad_output: (*head_backward(grad_output, *context.saved_tensors), None),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs[:2]),
)


@register_flop_formula(torch.ops.reckoned.head)
def _(features: Any, parameters: Any, maps: int, *_: Any, **__: Any) -> int:
    return 2 * parameters[0] * parameters[1] * parameters[2] * features[2]


@register_flop_formula(torch.ops.reckoned.head_backward)
def _(grad_output: Any, features: Any, parameters: Any, *_: Any, **__: Any) -> int:
    # The hidden layers again, in each of two kernels, and two products for each of forward's.
    return 4 * 2 * parameters[0] * parameters[1] * parameters[2] * features[2]


def attention_of_a_gpu(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, scale: float) -> Tensor:
    """What `scaled_dot_product_attention` takes there under a bias, whose rows it makes start at multiples of 8."""
    if attn_mask.stride(-1) != 1:
        raise ValueError("torch would take no fused kernel: the bias does not lie in memory row by row")
    N = attn_mask.shape[-1]
    aligned = F.pad(attn_mask, (0, -N % 8))[..., :N].expand(len(query), -1, -1, -1)
    keep = torch.is_grad_enabled()
    return torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, aligned, keep, scale=scale)[0]


class FakeViewMaker:
    """In the place of `ViewMaker`: batches of the right shapes, nothing read or augmented."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.patch, self.rois = tuple(options.patch), options.rois

    def batch(self, regions: list[int]) -> Batch:
        B, K = len(regions), self.rois
        weak, strong = (torch.zeros(B, 1, *self.patch) for _ in range(2))
        planes = torch.zeros(B, -(-K // 8), *self.patch, dtype=torch.uint8)
        return Batch(("",) * B, weak, strong, planes, torch.zeros(B, K, dtype=torch.bool), torch.zeros(B, K))


class Alone(Distributed):
    """One process, whose report says that nothing is broken and nobody asks to stop."""

    def all_reduce(self, values: Tensor) -> Any:
        return mock.Mock(tolist=lambda: [0.0] * values.numel())


def kinds(batch: int, rois: int) -> tuple[np.ndarray, np.ndarray]:
    """Which ROIs of which samples are labelled (bool B K), and scores that decide about the others (float B K)."""
    labelled, scores = np.zeros((batch, rois), bool), np.full((batch, rois), 0.5)
    labelled[:, :LABELLED] = True
    rest = np.flatnonzero(~labelled)
    scores.flat[rest[: round(len(rest) * POSITIVE)]] = 1
    scores.flat[rest[len(rest) - round(len(rest) * NEGATIVE) :]] = 0
    return labelled, scores


@contextmanager
def stand_ins(options: argparse.Namespace, size: int) -> Iterator[None]:
    """What fake tensors cannot do is done for them.

    MONAI's networks ask for values while they are built, so they are built for real first and become fake as copies.
    """

    def faked(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        def build_fake(*arguments: Any) -> nn.Module:
            with unset_fake_temporarily():
                network = build(*arguments)
            # A conversion that changes nothing, but that what comes out of it is fake; a second one would fail.
            network._apply(torch.clone)
            network.to = lambda *where, **how: network
            return network

        return build_fake

    labelled, scores = kinds(size, options.rois)
    ambiguous = ~labelled & (scores == 0.5)
    # The three terms, each of which asks three times which pairs of a sample and a ROI it selects.
    selected = itertools.cycle(
        int(mask.sum()) for mask in (labelled, ~labelled & ~ambiguous, ambiguous) for _ in range(3)
    )

    def nonzero(mask: Tensor) -> Tensor:
        return torch.zeros(next(selected), mask.ndim, dtype=torch.int64)

    losses = plain_step.plain_losses

    def losses_of_known_kinds(logits: Tensor, teacher: Tensor, labels: Tensor, *unknown: Any) -> Tensor:
        return losses(logits, teacher, labels, labelled, scores, train_step.METHOD)

    with (
        mock.patch.object(train_step, "view_maker_of", lambda options, device: FakeViewMaker(options)),
        mock.patch.object(train_step, "build_segmentation_network", faked(train_step.build_segmentation_network)),
        mock.patch.object(train_step, "build_roi_aware_network", faked(train_step.build_roi_aware_network)),
        mock.patch.object(plain_step, "PlainNetwork", faked(plain_step.PlainNetwork)),
        mock.patch.object(plain_step, "plain_losses", losses_of_known_kinds),
        mock.patch.object(generated_layers, "_in_chunks", head),
        mock.patch.object(window_attention, "attention", window_attention.fused_attention),
        mock.patch.object(F, "scaled_dot_product_attention", attention_of_a_gpu),
        mock.patch.object(Tensor, "nonzero", nonzero),
        mock.patch.object(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True),
    ):
        yield


def reckoned(variant: str, options: argparse.Namespace) -> Reckoned:
    """The second step of a variant (ours, plain), when the optimiser has its moments."""
    batch, parts = options.batch, options.accumulation
    execution = train_step.execution_of(options, parts)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, stand_ins(options, batch // parts), LiveTensors() as live:
        if variant == "ours":
            step = train_step.our_step(options, batch, execution, Alone(0, 1, CPU), online=False)
        else:
            step = train_step.their_step(options, batch, parts, CPU)
        crops: list[Any] = list(range(batch))
        step(0, crops)
        # What is there already need not be looked through at each collection.
        gc.freeze()
        live.peak = live.now
        with Traffic() as traffic:
            step(1, crops)
    if options.by_operation:
        print(f"{variant} | TFLOP | GB | ms")
        for name, (operations, moved, seconds) in sorted(traffic.rows.items(), key=lambda row: -row[1][2])[:25]:
            print(f"{name} | {operations / 1e12:.1f} | {moved / 1e9:.1f} | {1000 * seconds:.1f}")
    operations, moved, seconds = (sum(column) for column in zip(*traffic.rows.values(), strict=True))
    return Reckoned(live.peak, operations, moved, seconds)


def main() -> None:
    options = train_step.parsed(__doc__, "--by-operation", device="cuda", precision="bfloat16")
    if options.batch % options.accumulation:
        sys.exit("--accumulation must divide --batch")
    print(
        f"D×H×W {'×'.join(map(str, options.patch))}, {options.rois} ROIs, batch {options.batch} in "
        f"{options.accumulation}, {options.precision}"
    )
    plain = reckoned("plain", options)
    rows = {"plain": plain}
    for kind in get_args(Checkpointing):
        options.gradient_checkpointing = kind
        rows[f"lacuna, gradient_checkpointing: {kind}"] = reckoned("ours", options)
    print("variant | GiB at the peak | of plain's | TFLOP | TB moved | ms at the limits | plain's / this")
    for name, row in rows.items():
        print(
            f"{name} | {row.peak / 2**30:.1f} | {row.peak / plain.peak:.2f} | {row.operations / 1e12:.1f} | "
            f"{row.moved / 1e12:.2f} | {1000 * row.seconds:.0f} | {plain.seconds / row.seconds:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
