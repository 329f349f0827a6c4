"""The pool of patch positions of one data set's training cases, and what each patch contains.

Positions are seeded and drawn once; the frozen ROI-aware network scores each patch as it is, without augmentation.
Trainings draw their crops from the pool, so a crop's scores are looked up instead of computed in every step.

    python -m pipeline_lib.stages.score_existence.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv --model results/roi_aware_network/model.safetensors \\
        --scores results/existence/DATASET.parquet
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ...data.patches import patch_images
from ...data.pool import count_labelled, pool_positions
from ...data.training_cases import STARTS, score_column, sign_scores
from ...device import compute_device
from ...existence.scores import RoiScorer, load_scorer
from ...files import atomic_write, file_digest, fingerprint
from ...progress import Progress
from ...volumes.store import Volume, open_volume
from ..command import stage_command
from .settings import VERSION, Execution, Inputs, Outputs, Settings


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Draw and score the pools of `settings.cases`."""
    device = compute_device(execution.device)
    scorer = None if inputs.model is None else load_scorer(inputs.model, settings.structures, device)
    progress = Progress(f"score_existence {settings.dataset}", len(settings.cases), "cases")
    # A data set whose cases are all for testing has an empty pool.
    none = np.empty((0, 3), np.int64), np.empty((0, len(settings.rois)), np.float32)
    tables = [] if settings.cases else [pool_table(settings, "", *none)]
    labelled_cases = count_labelled(open_volume(inputs.cases.parent / case).record for case in settings.cases)
    for case in settings.cases:
        volume = open_volume(inputs.cases.parent / case)
        starts = pool_positions(volume.record, settings.patches, settings.seed, labelled_cases)
        scores = np.full((len(starts), len(settings.rois)), np.nan, np.float32)
        if scorer is not None:
            scores = pool_scores(scorer, volume, starts, settings, device)
        tables.append(pool_table(settings, case, starts, scores))
        progress.advance()
    table = pd.concat(tables, ignore_index=True)
    sign_scores(table, settings.rois, scored_by(settings, inputs))
    with atomic_write(outputs.scores) as partial:
        table.to_parquet(partial, index=False)


def scored_by(settings: Settings, inputs: Inputs) -> str:
    """Names all that decides the scores but the cases themselves: the network, what it looks at, and this code."""
    model = "" if inputs.model is None else file_digest(inputs.model)
    scored = settings.model_dump_json(include={"rois", "structures", "patches", "window_hu"}, exclude_defaults=True)
    return fingerprint(str(VERSION), model, scored)


def pool_scores(
    scorer: RoiScorer, volume: Volume, starts: NDArray[np.int64], settings: Settings, device: torch.device
) -> NDArray[np.float32]:
    """Existence scores N × K of the patches at `starts` (N × 3)."""
    batches = patch_images(volume, starts, settings.patches.shape, settings.existence.batch_size, device)
    return torch.cat([scorer(images) for images in batches]).cpu().numpy()


def pool_table(settings: Settings, case: str, starts: NDArray[np.int64], scores: NDArray[np.float32]) -> pd.DataFrame:
    """The rows of one case."""
    table = pd.DataFrame({"dataset": settings.dataset, "case": case, "patch": np.arange(len(starts))})
    table[STARTS] = starts
    table[[score_column(roi) for roi in settings.rois]] = scores
    return table


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
