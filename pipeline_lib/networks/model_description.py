"""What a model file says of itself, read without torch and without trust.

A file may come from a stranger. Safetensors holds numbers and text alone, so reading it runs no code; what is left are
names that lead out of a folder, text that a terminal obeys, and sizes and numbers that are implausible.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from ..config.confidence import Calibration
from ..config.evaluation import Prediction
from ..config.section import Name
from ..config.volumes import Patches, Volumes
from ..errors import UserError

Shapes = Mapping[str, tuple[int, ...]]

SEGMENTATION_KEYS = frozenset({"method", "network", "rois", "patches", "spacing_mm", "window_hu"})
ROI_AWARE_KEYS = frozenset({"roi_aware", "structures", "patches", "window_hu"})

DESCRIPTION = "description"
"""Where the file's metadata has it, as JSON."""
TEACHER = "teacher."
"""What the names of a teacher's tensors start with."""

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

_PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=200)]
"""Nothing that a terminal obeys or Markdown reads as its own."""

AGAIN = (
    "move it away and rerun the pipeline, which restores it from models/ or trains it again; "
    "if it is somebody else's, ask for it again"
)
OTHER_VERSION = "comes from another version of Lacuna, whose networks differ"
_KINDS = {
    SEGMENTATION_KEYS: ("a segmentation model", "results/models/RUN/model.safetensors"),
    ROI_AWARE_KEYS: ("a ROI-aware network", "results/roi_aware_network/model.safetensors"),
}


def read_description(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """The description of a segmentation model and the shapes of its tensors, without reading the tensors.

    Raises UserError as `load_segmentation_model` does for what shows in them.
    """
    with opened(path) as file:
        return description_in(path, file, SEGMENTATION_KEYS), shapes_in(file)


def method_in_words(method: Mapping[str, Any]) -> str:
    """The kind of the `method` of a description, and whether it learned without existence scores on request."""
    ignores = "decision" in method and method["decision"] is None
    return f"{method['kind']}{', without existence scores' if ignores else ''}"


def has_teacher(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a file with tensors of these names holds a teacher too."""
    return any(name.startswith(TEACHER) for name in shapes)


def without_teacher(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The tensors of the student alone."""
    return {name: shape for name, shape in shapes.items() if not name.startswith(TEACHER)}


@contextmanager
def opened(path: Path, framework: Literal["numpy", "pt"] = "numpy") -> Iterator[Any]:
    """The safetensors file, for the block; raises UserError if it is missing, broken or something else."""
    try:
        check_beginning(path)
        with safe_open(path, framework=framework, device="cpu") as file:
            yield file
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from error
    except SafetensorError as error:
        raise UserError(str(path), f"is not a complete safetensors file ({error})", AGAIN) from error


def description_in(path: Path, file: Any, keys: frozenset[str]) -> dict[str, Any]:
    """The checked description of an `opened` file; raises UserError if it lacks one of `keys`, or is implausible."""
    try:
        description = json.loads(
            (file.metadata() or {}).get(DESCRIPTION, "{}"), parse_constant=_refused, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise UserError(str(path), "has a description that is not JSON", AGAIN) from error
    if not isinstance(description, dict) or not description.keys() >= keys:
        raise _other_kind(path, description if isinstance(description, dict) else {}, keys)
    check_description(path, description)
    return description


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(number: str) -> float:
    if not math.isfinite(value := float(number)):
        raise ValueError(f"{number} is too large")
    return value


def shapes_in(file: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of an `opened` file; none is read."""
    return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


_Number = Annotated[float, Field(strict=True)]


class _Kind(BaseModel):
    """The part of a method's or network's settings that is shown; the rest is checked before it is built."""

    kind: _PlainName


class _Description(BaseModel):
    """The part of a description that every use relies on; other keys are free."""

    method: _Kind | None = None
    network: _Kind | None = None
    run: _PlainName | None = None
    seed: Annotated[int, Field(strict=True)] | None = None
    patches: Patches
    window_hu: tuple[_Number, _Number]
    rois: Annotated[tuple[Name, ...], Field(min_length=1, max_length=_MOST_ROIS)] | None = None
    spacing_mm: tuple[_Number, _Number, _Number] | None = None
    structures: tuple[str | tuple[str, ...], ...] = ()
    labelled: dict[Name, tuple[Name, ...]] = {}
    mirrors: dict[Name, Name] = {}
    prediction: Prediction | None = None
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        empty = sorted(
            key for key in self.model_fields_set - {"prediction", "calibration"} if getattr(self, key) is None
        )
        if empty:
            raise ValueError(f"`{empty[0]}` is null")
        if self.rois is not None and len(set(self.rois)) < len(self.rois):
            raise ValueError("`rois` names a ROI twice")
        if self.spacing_mm is not None:
            Volumes(spacing_mm=self.spacing_mm, window_hu=self.window_hu)
            if not all(_SPACING_MM[0] <= side <= _SPACING_MM[1] for side in self.spacing_mm):
                raise ValueError(f"`spacing_mm` is {self.spacing_mm}")
        depth, height, width = self.patches.shape
        if depth * height * width > _MOST_VOXELS:
            raise ValueError(f"`patches` are of {width}×{height}×{depth} voxels")
        # A ROI-aware network has structures in place of ROIs.
        structures = self.structures if self.rois is not None else ()
        if structures and (len(structures) != len(self.rois or ()) or any(isinstance(own, str) for own in structures)):
            raise ValueError("`structures` are not a list for each ROI")
        for dataset, labelled in self.labelled.items():
            if not {*labelled} <= {*(self.rois or ())} or len({*labelled}) < len(labelled):
                raise ValueError(f"`labelled` names other ROIs of {dataset} than its own, or one twice")
        unknown = {*self.mirrors, *self.mirrors.values()} - {*(self.rois or ())}
        if unknown:
            raise ValueError(f"`mirrors` names {min(unknown)}, which is not one of its ROIs")
        processed = {*(self.prediction.post_processing if self.prediction else ())} - {*(self.rois or ())}
        if processed:
            raise ValueError(f"`post_processing` names {min(processed)}, which is not one of its ROIs")
        if self.calibration is not None and {*self.calibration.rois} != {*(self.rois or ())}:
            raise ValueError("`calibration` is of other ROIs than its own")
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
    """Raise UserError if names, sizes or numbers of a description are implausible."""
    try:
        _Description.model_validate(description)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(str(path), f"has an unusable description ({key + ': ' if key else ''}{said})", AGAIN) from error


def _other_kind(path: Path, description: dict[str, Any], wanted: frozenset[str]) -> UserError:
    """What the file is instead. It may be the only copy of a good model, so that nobody is told to delete it."""
    kind, place = _KINDS[wanted]
    for keys, (held, _) in _KINDS.items():
        if description.keys() >= keys:
            return UserError(str(path), f"is {held}, and {kind} is expected here", f"give one, such as {place}")
    if description.keys() & wanted:
        return UserError(str(path), OTHER_VERSION, AGAIN)
    return UserError(str(path), f"holds no network, and {kind} is expected here", f"give one, such as {place}")
