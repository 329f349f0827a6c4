"""Do cached and online scores lead to the same decisions about existence, and are they correct?

    python -m pipeline_lib.stages.check_existence.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv … --existence results/existence/DATASET.parquet … \\
        --model results/roi_aware_network/model.safetensors --truth resources/truth/DATASET … \\
        --agreement results/existence_check/agreement.csv --decisions results/existence_check/decisions.csv

`--cases` and `--existence` are given in the order of the settings' data sets. Nothing is learned from what this stage
makes: besides the check of pseudo labels, the scores and the report, it alone may see the full truth of the training
cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from ...config.sides import partner_indices
from ...data.full_truth import with_full_truth
from ...data.training_cases import scored_cases
from ...device import compute_device
from ...existence.check import agreement_rows, decision_rows, pooled_patches, training_crops
from ...existence.scores import load_scorer
from ...files import atomic_write
from ..command import stage_command
from .settings import Execution, Inputs, Outputs, Settings

_CROPS = 1024
"""How many of a training's first samples are compared."""


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Compare cached with online decisions on training crops, and both with what the patches contain."""
    cases = scored_cases(
        settings.cases, settings.labelled, settings.rois, [path.parent for path in inputs.cases], inputs.existence
    )
    device = compute_device(execution.device)
    folders = {folder.name: folder for folder in inputs.truth}
    fully_known = [case.dataset in folders for case in cases]
    with TemporaryDirectory(prefix="lacuna-") as scratch:
        cases = with_full_truth(cases, folders, Path(scratch), "check_existence: truth")
        crops = training_crops(
            cases,
            fully_known,
            load_scorer(inputs.model, settings.structures, device),
            patches=settings.patches,
            weak=settings.weak,
            partners=partner_indices(settings.rois, settings.mirrors),
            window_hu=settings.window_hu,
            least_voxels=settings.least_voxels,
            batch=settings.existence.batch_size,
            count=_CROPS,
            seed=settings.seed,
            device=device,
        )
        known = [case for case, full in zip(cases, fully_known, strict=True) if full]
        pool = pooled_patches(known, settings.patches, settings.least_voxels)
    kinds = {"training crops": crops} if pool is None else {"training crops": crops, "pool": pool}
    rows = [
        row
        for kind, patches in kinds.items()
        for row in decision_rows(settings.rules, settings.rois, settings.organs, kind, patches)
    ]
    write_table(outputs.decisions, rows)
    write_table(outputs.agreement, agreement_rows(settings.rules, settings.rois, crops))


def write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write `rows` as CSV."""
    with atomic_write(path) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False, float_format="%.6g")


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
