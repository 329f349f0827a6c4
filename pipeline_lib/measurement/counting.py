"""What a step's operations keep in memory, multiply and move, counted while they are dispatched."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

Workspace = Callable[[Any, Sequence[Any], Any], int]
_CLEARLY_MORE = 1.005  # to collect at every rise would take too long; the peak is at most this much too low


class Rates(NamedTuple):
    """Floating point operations a second of dense products in half precision, and bytes a second of the memory."""

    operations: float
    moved: float


class Call(NamedTuple):
    """One of PyTorch's operations: its floating point operations, and the bytes that it reads and writes."""

    name: str
    operations: float
    moved: float

    def seconds(self, rates: Rates) -> float:
        """At least, whichever of both takes longer."""
        return max(self.operations / rates.operations, self.moved / rates.moved)


class LiveTensors(TorchDispatchMode):
    """Bytes of all storages that operations have made and nobody has let go of, and the most of them so far.

    `workspace` gives the bytes that an operation takes beside them while it runs, from the operation, what it is given
    and what it makes.
    """

    def __init__(self, workspace: Workspace | None = None) -> None:
        super().__init__()
        self._workspace = workspace
        self.now, self.peak, self.looks_for_peak = 0, 0, False
        self._known: set[int] = set()

    def start(self) -> None:
        """Look for the peak from now on."""
        gc.collect()
        # What is there already need not be looked through at each collection.
        gc.freeze()
        self.peak, self.looks_for_peak = self.now, True

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        if self._workspace is not None and self.looks_for_peak:
            self._look(self._workspace(function, args, made))
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._let_go, key, size)
        if self.looks_for_peak:
            self._look(0)

    def _look(self, beside: int) -> None:
        if self.now + beside > _CLEARLY_MORE * self.peak:
            # Fake tensors under autocast end up in cycles, as real ones do not.
            gc.collect()
            self.peak = max(self.peak, self.now + beside)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def cudnn_workspace(function: Any, args: Sequence[Any], made: Any) -> int:
    """Bytes of what cuDNN copies while it computes a convolution of contiguous tensors in half precision.

    Its kernels for tensor cores want the channels last, so the input is copied to that order and the output made in it.
    Backward makes the gradients of input and weight one after the other. Single-channel images are not copied.
    """
    if function._overloadpacket is torch.ops.aten.convolution:
        values = args[0]
        return _bytes(values, made) if _is_transposed(values) else 0
    if function._overloadpacket is torch.ops.aten.convolution_backward:
        grad_output, values = args[:2]
        if _is_transposed(values):
            return max(_bytes(grad_output, of_input) for of_input in (values, made[0]) if of_input is not None)
    return 0


def _is_transposed(values: Tensor) -> bool:
    return values.dtype in (torch.bfloat16, torch.float16) and values.shape[1] > 1


def _bytes(*tensors: Tensor) -> int:
    return sum(each.numel() * each.itemsize for each in tensors)


class Traffic(TorchDispatchMode):
    """What each operation multiplies, reads and writes, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

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
        self.calls.append(Call(name, operations, moved))
        return made
