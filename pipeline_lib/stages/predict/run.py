"""Segment the test cases of one data set with one trained network.

Each case becomes results/predictions/RUN/DATASET/CASE.nii.gz, ROI bits on the original image's grid. A
prediction that was stopped resumes with the remaining cases: finished ones wait in work/predict/FINGERPRINT/, under
names that also say of which volume each is, so that a volume that was remade meanwhile is predicted again.

    python -m pipeline_lib.stages.predict.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv --model results/models/RUN/model.safetensors \\
        --predictions results/predictions/RUN/DATASET
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
from torch import nn

from ...config.evaluation import Prediction
from ...config.methods import read_method
from ...config.section import text_without_defaults
from ...config.volumes import Patches
from ...device import compute_device
from ...files import atomic_folder, fingerprint
from ...inference.post_processing import largest_part
from ...inference.sliding_window import SlidingWindow, kept_compressed, predict_slabs, window_starts
from ...label_bits import NAMES_FILE, write_roi_bits
from ...methods.build import task_class
from ...networks.model_file import load_segmentation_model
from ...networks.precision import autocast_type
from ...progress import Progress, say
from ...volumes.resampling import masks_on_original_grid
from ...volumes.store import Volume, open_volume
from ..command import stage_command
from .settings import VERSION, Execution, Inputs, Outputs, Settings


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Predict all cases of `settings.cases` and move them into place together."""
    finished = (
        Path("work")
        / "predict"
        / fingerprint(str(VERSION), text_without_defaults(settings), inputs.model, inputs.cases)
    )
    finished.mkdir(parents=True, exist_ok=True)
    volumes = {case: open_volume(inputs.cases.parent / case) for case in settings.cases}
    parts = {case: finished / f"{case}@{volume.identity}.nii.gz" for case, volume in volumes.items()}
    todo = [case for case in settings.cases if not parts[case].exists()]
    stage = f"predict {settings.run}"
    if len(todo) < len(settings.cases):
        say(f"{stage}  {len(settings.cases) - len(todo)} of {len(settings.cases)} cases are already done")
    if todo:
        device = compute_device(execution.device, "inference.device")
        network, description = load_segmentation_model(inputs.model, device, settings.prediction.weights)
        window = sliding_window(settings.prediction, execution, description, device)
        network = network.for_prediction(device, window.precision)
        progress = Progress(stage, sum(_window_count(volumes[case], window) for case in todo), "windows")
        for case in todo:
            predict_case(
                network,
                volumes[case],
                tuple(description["rois"]),
                window,
                settings.prediction.post_processing,
                parts[case],
                progress,
            )
    with atomic_folder(outputs.predictions) as folder:
        for case, part in parts.items():
            shutil.copy2(part, folder / f"{case}.nii.gz")
        shutil.copy2(finished / NAMES_FILE, folder)
    shutil.rmtree(finished)


def sliding_window(
    prediction: Prediction, execution: Execution, description: dict[str, Any], device: torch.device
) -> SlidingWindow:
    """Windows as the config lays them, of the patch size and intensity window that the model was trained with."""
    rois, mirrors = description["rois"], description.get("mirrors", {})
    structures = tuple(map(tuple, description.get("structures", ())))
    to_probabilities = task_class(read_method(description["method"])).probabilities
    return SlidingWindow(
        shape=Patches.model_validate(description["patches"]).shape,
        overlap=prediction.overlap,
        window_batch_size=execution.window_batch_size,
        flip_tta=prediction.flip_tta,
        window_hu=tuple(description["window_hu"]),
        device=device,
        precision=autocast_type(execution.precision, device, training=False),
        to_probabilities=partial(to_probabilities, structures=structures),
        partners=tuple(rois.index(mirrors.get(roi, roi)) for roi in rois) if mirrors else (),
    )


def predict_case(
    network: nn.Module,
    volume: Volume,
    rois: tuple[str, ...],
    window: SlidingWindow,
    post_processing: Mapping[str, str],
    path: Path,
    progress: Progress,
) -> None:
    """Predict one volume, post-process the ROIs for which that is asked, and write ROI bits on the original grid.

    Probabilities wait as compressed bytes, and go back to the original grid one ROI at a time, so that K float
    channels of the whole volume never exist.
    """
    note = f"{volume.record.dataset}/{volume.record.case}"
    slabs = predict_slabs(
        network,
        volume.read_image,
        volume.shape,
        len(rois),
        window,
        on_windows=lambda count: progress.advance(count, note),
    )
    probabilities = kept_compressed(slabs, volume.shape, len(rois), window.shape[0])
    processed = tuple(roi in post_processing for roi in rois)
    bits = masks_on_original_grid(_one_by_one(probabilities, processed), volume.record)
    write_roi_bits(path, bits, volume.record.original, rois, volume.record.placement)


def _one_by_one(probabilities: blosc2.NDArray, largest_part_alone: Sequence[bool]) -> Iterator[np.ndarray]:
    for roi, alone in enumerate(largest_part_alone):
        yield largest_part(probabilities[roi]) if alone else probabilities[roi]


def _window_count(volume: Volume, window: SlidingWindow) -> int:
    count = 1
    for length, side in zip(volume.shape, window.shape, strict=True):
        count *= len(window_starts(length, side, window.overlap))
    return count


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
