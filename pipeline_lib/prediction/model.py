"""A trained model, or several, made ready to segment any CT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import blosc2
import SimpleITK as sitk
from pydantic import ValidationError
from torch import nn

from ..config.confidence import Calibration
from ..config.evaluation import Prediction, PredictionExecution
from ..device import compute_device
from ..errors import UserError
from ..files import file_digest
from ..geometry import Geometry
from ..inference.sliding_window import SlidingWindow, window_count
from ..networks.model_description import Shapes, read_description
from ..networks.model_file import Weights
from .ct import Ct, ct_from_image, read_ct
from .ensemble import Ensemble, Runtime, check_teacher, load_ensemble
from .memory import check_memory, check_volume_memory
from .segmentation import Segmentation
from .volume import Volume, probabilities_in, volume_grid, volume_of

OnWindows = Callable[[int, int], None]
"""Called with the number of windows just finished, and of all."""

_FAST_OVERLAP = 0.0


@dataclass(frozen=True)
class Options:
    """How to predict. None leaves it to the model file, or to the pipeline's default where that does not say.

    `fast` puts windows side by side, without overlap and flips: up to eight times as fast, and less exact where windows
    meet. `largest_part` has ROIs of which only the largest part is kept, besides those that the model file names.
    `runtime` is what computes the network; openvino, on a CPU alone, needs the package of that name.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    fast: bool = False
    overlap: float | None = None
    flip_tta: bool | None = None
    weights: Weights | None = None
    largest_part: tuple[str, ...] = ()
    runtime: Runtime = "pytorch"


DEFAULTS = Options()


@dataclass(frozen=True)
class Model:
    """Networks that are loaded, with all that is needed to use them. `notes` say what their files left open.

    `calibration` is that of the file, if it holds for these predictions.
    """

    rois: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    network: nn.Module
    window: SlidingWindow
    post_processing: Mapping[str, str]
    made_by: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None

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
        check_volume_memory(ct, self.volume_grid(ct), len(self.rois))
        volume = volume_of(ct, self.spacing_mm, self.window.window_hu)
        check_memory(volume, len(self.rois), self.window)
        total = self.window_count(ct)
        joint = self.network if isinstance(self.network, Ensemble) else None
        if joint is not None:
            joint.start_counting()
        probabilities = probabilities_in(
            volume, self.network, len(self.rois), self.window, lambda count: on_windows(count, total)
        )
        found = self.segmentation(volume, probabilities)
        if joint is None:
            return found
        return replace(found, agreement=dict(zip(self.rois, joint.agreement(), strict=True)))

    def segmentation(self, volume: Volume, probabilities: blosc2.NDArray) -> Segmentation:
        """What `probabilities_in` found in a volume, with the model's post-processing, on the CT's own grid."""
        return Segmentation(
            volume.ct, self.rois, volume.grid, self.post_processing, self.made_by, probabilities, self.calibration
        )

    def window_count(self, ct: Ct) -> int:
        """Number of windows that cover the CT; `predict` counts those in the air around the patient with the others."""
        return window_count(self.volume_grid(ct).shape, self.window)

    def volume_grid(self, ct: Ct) -> Geometry:
        """The grid on which the networks see `ct`."""
        return volume_grid(ct, self.spacing_mm)


def load_models(paths: Sequence[Path], options: Options = DEFAULTS) -> Model:
    """The model in a file, or several whose probabilities are averaged, on the device that `options` name.

    Raises UserError if a file is not a usable model, or if the models do not fit together.
    """
    if not paths:
        raise UserError("--model", "names no file", "give at least one model.safetensors")
    on_cpu = options.runtime == "openvino" and options.device == "auto"
    device = compute_device("cpu" if on_cpu else options.device, "--device")
    # On a CPU a pass over two windows takes twice the time of one, and twice its memory.
    at_once = {"window_batch_size": 1} if device.type == "cpu" else {}
    execution = PredictionExecution(device=options.device, precision=options.precision, **at_once)
    described, shapes = read_description(paths[0])
    notes: list[str] = []
    if described.get("prediction") is None:
        notes.append(f"{paths[0]}: does not say how to predict, so the defaults apply (`lacuna export` can add it)")
    prediction = asked_for(paths[0], described, shapes, own_prediction(described), options)
    joint, window, first = load_ensemble(paths, prediction, execution, device, options.runtime)
    calibration = _calibration(paths, first, prediction, notes)
    made_by = {
        "models": [{"file": str(path), "content": file_digest(path)} for path in paths],
        "fast": options.fast,
        **prediction.model_dump(mode="json"),
        "runtime": options.runtime,
        "precision": str(window.precision).removeprefix("torch."),
        "calibrated_on": calibration.cases if calibration is not None else None,
        "spacing_mm": list(first["spacing_mm"]),
    }
    return Model(
        rois=tuple(first["rois"]),
        spacing_mm=tuple(first["spacing_mm"]),
        network=joint,
        window=window,
        post_processing=prediction.post_processing,
        made_by=made_by,
        notes=tuple(notes),
        calibration=calibration,
    )


def _calibration(
    paths: Sequence[Path], description: Mapping[str, Any], prediction: Prediction, notes: list[str]
) -> Calibration | None:
    """The calibration in the first file, if it is of these predictions; `notes` get why it is not."""
    if description.get("calibration") is None:
        return None
    if len(paths) > 1:
        notes.append(f"{paths[0]}: its calibration is for this model alone, so several models give no expected Dice")
        return None
    calibration = own_calibration(description, prediction)
    if calibration is None:
        notes.append(
            f"{paths[0]}: its calibration is for the file's own way of predicting, so there is no expected Dice"
        )
    return calibration


def own_prediction(description: Mapping[str, Any]) -> Prediction:
    """How a model predicts by its own description, or by default where that does not say."""
    return Prediction.model_validate(description.get("prediction") or {})


def own_calibration(description: Mapping[str, Any], prediction: Prediction) -> Calibration | None:
    """The calibration that a model's description holds; None if there is none, or if it is not of `prediction`."""
    held = description.get("calibration")
    if held is None or prediction != own_prediction(description):
        return None
    return Calibration.model_validate(held)


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
