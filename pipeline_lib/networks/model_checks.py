"""Is a model file what it says it is? Checked before a network is built or memory is taken for it.

A file may come from a stranger. Safetensors holds numbers and text alone, so reading it runs no code; what is left are
names that lead out of a folder, sizes that fill the memory, and tensors that do not fit the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import BaseModel, Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..config.evaluation import Prediction
from ..config.section import Name
from ..config.volumes import Patches, Volumes
from ..errors import UserError

Shapes = Mapping[str, tuple[int, ...]]

_MOST_ROIS = 4096
_MOST_VOXELS = 1 << 27
"""Of a patch: 512×512×512."""
_SPACING_MM = (0.01, 100.0)
_BEGINNINGS = {
    b"PK": "is a zip archive or a PyTorch checkpoint, which can run code when it is read",
    b"\x80": "is a pickle, which can run code when it is read",
    b"\x1f\x8b": "is compressed by gzip",
    b"version https://git-lfs": "is a Git LFS pointer, not the model itself",
}
_HEAD_BYTES = 32

AGAIN = (
    "move it away and rerun the pipeline, which restores it from models/ or trains it again; "
    "if it is somebody else's, ask for it again"
)
OTHER_VERSION = "comes from another version of Lacuna, whose networks differ"


class _Description(BaseModel):
    """The part of a description that every use relies on; other keys are free."""

    patches: Patches
    window_hu: tuple[float, float]
    rois: Annotated[tuple[Name, ...], Field(min_length=1, max_length=_MOST_ROIS)] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    mirrors: dict[Name, Name] = {}
    prediction: Prediction | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.rois is not None and len(set(self.rois)) < len(self.rois):
            raise ValueError("`rois` names a ROI twice")
        if self.spacing_mm is not None:
            Volumes(spacing_mm=self.spacing_mm, window_hu=self.window_hu)
            if not all(_SPACING_MM[0] <= side <= _SPACING_MM[1] for side in self.spacing_mm):
                raise ValueError(f"`spacing_mm` is {self.spacing_mm}")
        depth, height, width = self.patches.shape
        if depth * height * width > _MOST_VOXELS:
            raise ValueError(f"`patches` are of {width}×{height}×{depth} voxels")
        unknown = {*self.mirrors, *self.mirrors.values()} - {*(self.rois or ())}
        if unknown:
            raise ValueError(f"`mirrors` names {min(unknown)}, which is not one of its ROIs")
        processed = {*(self.prediction.post_processing if self.prediction else ())} - {*(self.rois or ())}
        if processed:
            raise ValueError(f"`post_processing` names {min(processed)}, which is not one of its ROIs")
        return self


def check_beginning(path: Path) -> None:
    """Raise UserError if the file is of a kind that often stands in the place of a safetensors file."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[8:9] == b"{":  # after the length of its header, which may look like anything
        return
    for beginning, wrong in _BEGINNINGS.items():
        if head.startswith(beginning):
            raise UserError(str(path), wrong, "give a model as a .safetensors file")


def check_description(path: Path, description: Mapping[str, Any]) -> None:
    """Raise UserError if names, sizes or numbers of a description cannot be meant."""
    try:
        _Description.model_validate(description)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(str(path), f"has an unusable description ({key + ': ' if key else ''}{said})", AGAIN) from error


def check_shapes(path: Path, shapes: Shapes, build: Callable[[], nn.Module], teacher: str) -> None:
    """Raise UserError unless `shapes` of a file's tensors are those of the network that `build` makes.

    The network is built without memory for its weights. Tensors whose names start with `teacher` are a second set.
    """
    try:
        with torch.device("meta"), _SmallOnesReally():
            expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
        said = str(error).partition("\n")[0]
        raise UserError(str(path), f"describes a network that cannot be built ({said})", AGAIN) from error
    student = {name: shape for name, shape in shapes.items() if not name.startswith(teacher)}
    missing = sorted(expected.keys() - student.keys())
    if missing:
        raise _differs(path, f"it lacks {missing[0]}")
    for name, shape in shapes.items():
        wanted = expected.get(name.removeprefix(teacher))
        if wanted is None:
            raise _differs(path, f"it has {name} besides")
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
