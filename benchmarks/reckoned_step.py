"""Peak memory and arithmetic of a training step at the paper's size, reckoned without a GPU.

    python benchmarks/reckoned_step.py                             # patch 160×160×96, 11 ROIs, batch 12, bfloat16
    python benchmarks/reckoned_step.py --accumulation 3

The steps of benchmarks/train_step.py, this code's and the plain composition's, are taken with PyTorch's fake tensors,
which have shapes and no values: which tensors live at once, and how many products are made, can so be told anywhere.
The dynamic head is taken as plain products in chunks; its Triton kernels need less.
Not in it: the workspaces of a GPU's kernels, what its allocator leaves unused, and the few operations that autocast
treats otherwise on a GPU than on a CPU. Two ROIs of each sample are labelled; a fifth of the rest is positive, a tenth
negative and the others are ambiguous, as in train_step.py, whose options for sizes it shares.
"""

from __future__ import annotations

import argparse
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
import train_step
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from pipeline_lib.config.optimisation import Checkpointing
from pipeline_lib.learning.batches import Batch
from pipeline_lib.learning.processes import Processes
from pipeline_lib.networks import generated_layers

CPU = torch.device("cpu")
LABELLED, POSITIVE, NEGATIVE = 2, 0.2, 0.1
_CLEARLY_MORE = 1.005  # to collect at every rise would take too long; the peak is at most this much too low


class Reckoned(NamedTuple):
    """Bytes at the peak of a step, and its floating point operations."""

    peak: int
    operations: int


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


class FakeViews:
    """In the place of `Views`: batches of the right shapes, nothing read or augmented."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.patch, self.rois = tuple(options.patch), options.rois

    def batch(self, regions: list[int]) -> Batch:
        B, K = len(regions), self.rois
        weak, strong = (torch.zeros(B, 1, *self.patch) for _ in range(2))
        planes = torch.zeros(B, -(-K // 8), *self.patch, dtype=torch.uint8)
        return Batch(("",) * B, weak, strong, planes, torch.zeros(B, K, dtype=torch.bool), torch.zeros(B, K))


class Alone(Processes):
    """One process, whose report says that nothing is broken and nobody asks to stop."""

    def summed(self, values: Tensor) -> Any:
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
        mock.patch.object(train_step, "views_of", lambda options, device: FakeViews(options)),
        mock.patch.object(train_step, "build_segmentation_network", faked(train_step.build_segmentation_network)),
        mock.patch.object(train_step, "build_roi_aware_network", faked(train_step.build_roi_aware_network)),
        mock.patch.object(plain_step, "PlainNetwork", faked(plain_step.PlainNetwork)),
        mock.patch.object(plain_step, "plain_losses", losses_of_known_kinds),
        mock.patch.object(Tensor, "nonzero", nonzero),
        mock.patch.object(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True),
    ):
        yield


def reckoned(variant: str, options: argparse.Namespace) -> Reckoned:
    """The second step of a variant (ours, plain), when the optimiser has its moments."""
    batch, parts = options.batch, options.accumulation
    execution = train_step.execution_of(options, parts)
    for_gpu = mock.patch.dict(
        generated_layers._HIDDEN_VALUES_PER_CHUNK, cpu=generated_layers._HIDDEN_VALUES_PER_CHUNK["cuda"]
    )
    with for_gpu, FakeTensorMode(allow_non_fake_inputs=True), LiveTensors() as live, stand_ins(options, batch // parts):
        if variant == "ours":
            step = train_step.our_step(options, batch, execution, Alone(0, 1, CPU), online=False)
        else:
            step = train_step.their_step(options, batch, parts, CPU)
        crops: list[Any] = list(range(batch))
        step(0, crops)
        live.peak = live.now
        with FlopCounterMode(display=False) as operations:
            step(1, crops)
        return Reckoned(live.peak, operations.get_total_flops())


def main() -> None:
    options = train_step.parsed(device="cuda", precision="bfloat16")
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
    print("variant | GiB at the peak | of plain's | TFLOP in a step | of plain's")
    for name, row in rows.items():
        print(
            f"{name} | {row.peak / 2**30:.1f} | {row.peak / plain.peak:.2f} | {row.operations / 1e12:.1f} | "
            f"{row.operations / plain.operations:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
