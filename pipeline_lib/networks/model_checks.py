"""Do a model file's tensors fit the network that it describes? Found before memory is taken for either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..errors import UserError
from .dynamic_head import EMBEDDING_STATISTICS
from .model_description import AGAIN, OTHER_VERSION, TEACHER, Shapes, without_teacher


def check_repeats(path: Path, network: Mapping[str, Any], labelled: Mapping[str, Any], shapes: Shapes) -> None:
    """Raise UserError if a network's settings repeat a block more often than the file has tensors.

    So may not the data sets in `labelled`, of which each has a part. Building takes time even where it takes no memory.
    """
    lists = [value for value in network.values() if isinstance(value, list)]
    most = max((number for value in lists for number in value if isinstance(number, int)), default=0)
    most = max(most, len(labelled))
    if most > len(shapes):
        raise UserError(str(path), f"has {len(shapes)} tensors and describes a network of {most} blocks", AGAIN)


def check_shapes(path: Path, shapes: Shapes, build: Callable[[], nn.Module]) -> None:
    """Raise UserError unless `shapes` of a file's tensors are those of the network that `build` makes.

    The network is built without memory for its weights. A teacher's tensors are a second set. Statistics of embeddings
    may be missing: the head computes them (files of earlier versions have none).
    """
    try:
        with torch.device("meta"), _SmallOnesReally():
            expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(str(path), f"describes a network that cannot be built ({said})", AGAIN) from error
    missing = sorted(
        name for name in expected.keys() - without_teacher(shapes).keys() if not name.endswith(EMBEDDING_STATISTICS)
    )
    if missing:
        raise _differs(path, f"it lacks {missing[0]}")
    for name, shape in shapes.items():
        wanted = expected.get(name.removeprefix(TEACHER))
        if wanted is None:
            raise _differs(path, f"it also has {name}")
        if shape != wanted:
            raise _differs(path, f"its {name} is {_product(shape)} instead of {_product(wanted)}")


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise UserError if a tensor holds NaN or infinite numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(str(path), f"holds NaN or infinite numbers in {name}", AGAIN)


class _SmallOnesReally(TorchFunctionMode):
    """Inside `torch.device("meta")`: MONAI reads the numbers of its one `linspace`, a number per block."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        placed = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**(kwargs or {}), **placed})


def _differs(path: Path, how: str) -> UserError:
    return UserError(str(path), f"{OTHER_VERSION} ({how})", AGAIN)


def _product(shape: tuple[int, ...]) -> str:
    return "×".join(str(side) for side in shape) or "a single number"
