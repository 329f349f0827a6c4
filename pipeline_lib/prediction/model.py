"""A trained model, or several, made ready to segment any CT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from pydantic import ValidationError
from torch import nn

from ..config.evaluation import Prediction, PredictionExecution
from ..device import compute_device
from ..errors import UserError
from ..files import file_digest
from ..geometry import Geometry
from ..inference.sliding_window import Shape, SlidingWindow, window_count
from ..networks.model_description import Shapes, read_description
from ..networks.model_file import Weights
from ..volumes.resampling import image_volume
from ..volumes.store import read_box
from .ct import Ct, ct_from_image, read_ct
from .ensemble import check_teacher, load_ensemble
from .memory import check_memory
from .segmentation import Segmentation
from .windows import compressed_probabilities

OnWindows = Callable[[int, int], None]
"""Called with the number of windows just finished, and of all."""

_FAST_OVERLAP = 0.0


@dataclass(frozen=True)
class Options:
    """How to predict. None leaves it to the model file, or to the pipeline's default where that does not say.

    `fast` puts windows side by side, without overlap and flips: up to eight times as fast, and less exact where windows
    meet. `largest_part` has ROIs of which only the largest part is kept, besides those that the model file names.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    fast: bool = False
    overlap: float | None = None
    flip_tta: bool | None = None
    weights: Weights | None = None
    largest_part: tuple[str, ...] = ()


DEFAULTS = Options()


@dataclass(frozen=True)
class Model:
    """Networks that are loaded, with all that is needed to use them. `notes` say what their files left open."""

    rois: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    network: nn.Module
    window: SlidingWindow
    post_processing: Mapping[str, str]
    made_by: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def predict(
        self,
        ct: str | Path | sitk.Image | Ct,
        on_windows: OnWindows = lambda done, total: None,
        allow_other_units: bool = False,
        series_uid: str | None = None,
    ) -> Segmentation:
        """Segment a CT in HU: a file, a DICOM folder or zip, an image in memory, or what `read_ct` gave.

        `series_uid` names the series to take of DICOM files that hold several.

        Raises UserError if it cannot be read, is not a CT, or needs more memory than there is.
        """
        if isinstance(ct, sitk.Image):
            ct = ct_from_image(ct, allow_other_units=allow_other_units)
        elif not isinstance(ct, Ct):
            ct = read_ct(Path(ct), allow_other_units=allow_other_units, series_uid=series_uid)
        grid = self.volume_grid(ct)
        check_memory(ct, grid, len(self.rois), self.window)
        volume = image_volume(ct.image, grid, self.window.window_hu)
        outside = round(self.window.window_hu[0])
        total = self.window_count(ct)

        def read_image(start: Shape, shape: Shape) -> np.ndarray:
            return read_box(volume, start, shape, outside)

        def advance(count: int) -> None:
            on_windows(count, total)

        probabilities = compressed_probabilities(
            self.network, read_image, grid.shape, len(self.rois), self.window, advance
        )
        return Segmentation(ct, self.rois, grid, self.post_processing, self.made_by, probabilities)

    def window_count(self, ct: Ct) -> int:
        """Number of windows that `predict` puts through the network."""
        return window_count(self.volume_grid(ct).shape, self.window)

    def volume_grid(self, ct: Ct) -> Geometry:
        """The grid on which the networks see `ct`."""
        return ct.grid.canonical().at_spacing(self.spacing_mm)


def load_models(paths: Sequence[Path], options: Options = DEFAULTS) -> Model:
    """The model in a file, or several whose probabilities are averaged, on the device that `options` name.

    Raises UserError if a file is not a usable model, or if the models do not fit together.
    """
    if not paths:
        raise UserError("--model", "names no file", "give at least one model.safetensors")
    device = compute_device(options.device, "--device")
    execution = PredictionExecution(device=options.device, precision=options.precision)
    described, shapes = read_description(paths[0])
    notes: tuple[str, ...] = ()
    if described.get("prediction") is None:
        unsaid = "does not say how to predict, so the defaults apply (`lacuna export` can add it)"
        notes = (f"{paths[0]}: {unsaid}",)
    held = Prediction.model_validate(described.get("prediction") or {})
    prediction = asked_for(paths[0], described, shapes, held, options)
    joint, window, first = load_ensemble(paths, prediction, execution, device)
    made_by = {
        "models": [{"file": str(path), "content": file_digest(path)} for path in paths],
        "fast": options.fast,
        **prediction.model_dump(mode="json"),
        "precision": str(window.precision).removeprefix("torch."),
        "spacing_mm": list(first["spacing_mm"]),
    }
    return Model(
        rois=tuple(first["rois"]),
        spacing_mm=tuple(first["spacing_mm"]),
        network=joint,
        window=window,
        post_processing=prediction.post_processing,
        made_by=made_by,
        notes=notes,
    )


def asked_for(
    path: Path, description: Mapping[str, Any], shapes: Shapes, held: Prediction, options: Options
) -> Prediction:
    """How the model in `path` is to predict: as `options` ask, else as `held`.

    Raises UserError if an option is out of range or does not fit the model.
    """
    if isinstance(options.largest_part, str):
        raise UserError("largest_part", "is a text", f"give a tuple of ROIs, such as ({options.largest_part!r},)")
    unknown = sorted(set(options.largest_part) - set(description["rois"]))
    if unknown:
        listed = ", ".join(description["rois"])
        raise UserError("--largest-part", f"{unknown[0]} is not a ROI of the model", f"it has {listed}")
    asked: dict[str, Any] = {"overlap": _FAST_OVERLAP, "flip_tta": False} if options.fast else {}
    for key in ("overlap", "flip_tta", "weights"):
        if getattr(options, key) is not None:
            asked[key] = getattr(options, key)
    asked["post_processing"] = {**held.post_processing, **dict.fromkeys(options.largest_part, "largest_part")}
    try:
        prediction = Prediction.model_validate({**held.model_dump(), **asked})
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise UserError(f"--{key.replace('_', '-')}", f"{asked.get(key)!r} cannot be used", first["msg"]) from error
    check_teacher(path, shapes, prediction)
    return prediction
