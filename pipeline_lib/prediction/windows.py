"""From a model's description and a volume to the ROIs' probabilities, for stage predict and `lacuna predict` alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import blosc2
import numpy as np
import torch
from torch import Tensor, nn

from ..config.evaluation import Prediction, PredictionExecution
from ..config.method_settings import LeafMethodSettings
from ..config.methods import read_method
from ..config.volumes import Patches
from ..errors import UserError
from ..inference.post_processing import largest_part
from ..inference.sliding_window import ReadImage, Shape, SlidingWindow, kept_compressed, predict_slabs
from ..methods.build import task_class
from ..networks.model_description import AGAIN
from ..networks.precision import autocast_type


def sliding_window(
    prediction: Prediction, execution: PredictionExecution, description: dict[str, Any], device: torch.device
) -> SlidingWindow:
    """Windows as `prediction` lays them, of the patch size and intensity window that the model was trained with.

    Raises UserError if this version does not know the model's method, or if the method needs what is not described.
    """
    rois, mirrors = description["rois"], description.get("mirrors", {})
    return SlidingWindow(
        shape=Patches.model_validate(description["patches"]).shape,
        overlap=prediction.overlap,
        window_batch_size=execution.window_batch_size,
        flip_tta=prediction.flip_tta,
        window_hu=tuple(description["window_hu"]),
        device=device,
        precision=autocast_type(execution.precision, device, training=False),
        to_probabilities=probabilities_of(description),
        partners=tuple(rois.index(mirrors.get(roi, roi)) for roi in rois) if mirrors else (),
    )


def probabilities_of(description: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """How the model's method turns logits into probabilities: B K D H W → B K D H W, float32.

    Raises UserError as `sliding_window` does.
    """
    structures = tuple(map(tuple, description.get("structures", ())))
    method = read_method(description["method"])
    if isinstance(method, LeafMethodSettings) and len(structures) != len(description["rois"]):
        wrong = "does not say which of its ROIs exclude each other (`structures`), as its softmax needs"
        raise UserError("model file", wrong, AGAIN)
    return partial(task_class(method).probabilities, structures=structures)


def compressed_probabilities(
    network: nn.Module,
    read_image: ReadImage,
    volume_shape: Shape,
    roi_count: int,
    window: SlidingWindow,
    on_windows: Callable[[int], None] = lambda count: None,
) -> blosc2.NDArray:
    """Probabilities of all ROIs, uint8 K D H W (0 … 255 for 0 … 1), as compressed bytes in memory.

    K float channels of the whole volume never exist. Parameters as those of `predict_slabs`.
    """
    slabs = predict_slabs(network, read_image, volume_shape, roi_count, window, on_windows)
    return kept_compressed(slabs, volume_shape, roi_count, window.shape[0])


def post_processed(
    probabilities: blosc2.NDArray, rois: Sequence[str], post_processing: Mapping[str, str]
) -> Iterator[np.ndarray]:
    """The probabilities (uint8 D H W) of one ROI after the other, post-processed where that is asked for the ROI."""
    for index, roi in enumerate(rois):
        yield largest_part(probabilities[index]) if roi in post_processing else probabilities[index]
