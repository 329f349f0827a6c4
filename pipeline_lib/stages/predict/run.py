"""Segment cases of one data set with a trained network, or with the average of several.

Each case becomes results/predictions/RUN/DATASET/CASE.nii.gz, ROI bits on the original image's grid. A
prediction that was stopped resumes with the remaining cases: finished ones wait in work/predict/FINGERPRINT/, under
names that also say of which volume each is, so that a volume that was remade meanwhile is predicted again.

    python -m pipeline_lib.stages.predict.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv --model results/models/RUN/model.safetensors … \\
        --predictions results/predictions/RUN/DATASET
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from ...config.section import text_without_defaults
from ...device import compute_device
from ...files import atomic_folder, fingerprint
from ...inference.sliding_window import SlidingWindow, window_count
from ...label_bits import NAMES_FILE, write_roi_bits
from ...prediction.ensemble import load_ensemble
from ...prediction.windows import compressed_probabilities, post_processed
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
        / fingerprint(str(VERSION), text_without_defaults(settings), *inputs.model, inputs.cases)
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
        network, window, description = load_ensemble(inputs.model, settings.prediction, execution, device)
        progress = Progress(stage, sum(window_count(volumes[case].shape, window) for case in todo), "windows")
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

    They go back to the original grid one ROI at a time, so that K masks never exist as bytes.
    """
    note = f"{volume.record.dataset}/{volume.record.case}"
    probabilities = compressed_probabilities(
        network,
        volume.read_image,
        volume.shape,
        len(rois),
        window,
        on_windows=lambda count: progress.advance(count, note),
    )
    bits = masks_on_original_grid(post_processed(probabilities, rois, post_processing), volume.record)
    write_roi_bits(path, bits, volume.record.original, rois, volume.record.placement)


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
