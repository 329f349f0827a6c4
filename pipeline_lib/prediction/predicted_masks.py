"""Masks that a model predicts of labelled volumes, with certainty and Dice: what a calibration is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config.evaluation import Prediction, PredictionExecution
from ..device import compute_device, out_of_memory
from ..errors import UserError
from ..inference.certainty import certainty
from ..label_bits import unpack
from ..networks.model_description import read_description
from ..networks.model_file import load_segmentation_model
from ..scoring.dice import dice, overlap
from ..volumes.resampling import FOREGROUND
from ..volumes.store import Volume
from .calibration import Mask
from .windows import compressed_probabilities, post_processed, sliding_window


def predicted_masks(
    path: Path,
    prediction: Prediction,
    execution: PredictionExecution,
    volumes: Sequence[Volume],
    on_case: Callable[[str], None] = lambda case: None,
) -> list[Mask]:
    """The masks, none of them empty, that the model in `path` predicts of the ROIs that the volumes label.

    Dice is 2TP/(P+G) on the volume's grid, 0 for a ROI that is not there, without the voxels at which it is unknown.

    Raises UserError if the model is not usable, if a volume's labels, spacing or intensity window are not the model's,
    or if memory runs out.
    """
    described, _ = read_description(path)
    for volume in volumes:
        _check_fit(volume, described)
    device = compute_device(execution.device, "--device")
    network, description = load_segmentation_model(path, device, prediction.weights)
    window = sliding_window(prediction, execution, description, device)
    predicting = network.for_prediction(device, window.precision)
    rois = tuple(description["rois"])
    masks: list[Mask] = []
    for volume in volumes:
        try:
            probabilities = compressed_probabilities(predicting, volume.read_image, volume.shape, len(rois), window)
            masks += _masks_of_case(post_processed(probabilities, rois, prediction.post_processing), volume, rois)
        except Exception as error:
            if not out_of_memory(error):
                raise
            remedy = "free some, or use --device cpu"
            raise UserError(str(volume.folder), "does not fit into memory", remedy) from error
        on_case(volume.record.case)
    return masks


def _check_fit(volume: Volume, description: Mapping[str, Any]) -> None:
    """Raise UserError if a volume has other labels, voxels or intensities than the model was trained with."""
    record, remedy = volume.record, "give the config that the model was trained with, and its volumes"
    rois, spacing, window = (tuple(description[key]) for key in ("rois", "spacing_mm", "window_hu"))
    if record.targets != rois:
        wrong = f"has labels of {', '.join(record.targets)}, and the model segments {', '.join(rois)}"
        raise UserError(str(volume.folder), wrong, remedy)
    if record.spacing_mm != spacing:
        wrong = f"has voxels of {_listed(record.spacing_mm)} mm, and the model takes {_listed(spacing)} mm"
        raise UserError(str(volume.folder), wrong, remedy)
    if record.window_hu != window:
        wrong = f"has intensities of {_listed(record.window_hu)} HU, and the model takes {_listed(window)} HU"
        raise UserError(str(volume.folder), wrong, remedy)


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _masks_of_case(probabilities: Iterator[np.ndarray], volume: Volume, rois: Sequence[str]) -> Iterator[Mask]:
    codes = volume.read_codes((0, 0, 0), volume.shape)
    has_roi = unpack(volume.combinations, len(rois), axis=1).astype(bool)
    is_unknown = unpack(volume.unknown, len(rois), axis=1).astype(bool)
    for index, (roi, probability) in enumerate(zip(rois, probabilities, strict=True)):
        if roi not in volume.record.labelled:
            continue
        certain = certainty(probability)
        mask, truth = probability >= FOREGROUND, has_roi[:, index][codes]
        if len(is_unknown):
            known = ~is_unknown[:, index][codes]
            mask, truth = mask & known, truth & known
        if certain is not None and mask.any():
            yield Mask(roi, certain, dice(overlap(mask, truth), "nnunet"))
