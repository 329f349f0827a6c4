"""What a step's operations keep in memory, multiply and move, counted while they are dispatched."""

from __future__ import annotations

import gc
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

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
    """Bytes of all storages that operations have made and nobody has let go of, and the most of them so far."""

    def __init__(self) -> None:
        super().__init__()
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
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        weakref.finalize(storage, self._let_go, key, size)
        if self.looks_for_peak and self.now > _CLEARLY_MORE * self.peak:
            # Fake tensors under autocast end up in cycles, as real ones do not.
            gc.collect()
            self.peak = max(self.peak, self.now)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


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
