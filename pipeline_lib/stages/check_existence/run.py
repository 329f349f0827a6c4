"""Are the decisions about existence the same with cached and with online scores, and right?

    python -m pipeline_lib.stages.check_existence.run --settings settings.json --execution execution.json \\
        --cases results/volumes/DATASET/cases.csv … --existence results/existence/DATASET.parquet … \\
        --model results/roi_aware/model.safetensors --metrics results/roi_aware/metrics.json \\
        --truth resources/truth/DATASET … --agreement results/existence_check/agreement.csv \\
        --decisions results/existence_check/decisions.csv

`--cases` and `--existence` are given in the order of the settings' data sets. Nothing is learned from what this stage
makes: only this stage, the scores and the report may see the full truth of the training cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config.methods import Method
from ...data.batches import ViewMaker
from ...data.crops import CropPlan, TrainingCase
from ...data.patches import patch_images, voxels_in_patches
from ...data.reading import CropReader
from ...data.training_cases import scored_cases
from ...device import compute_device
from ...existence.agreement import Decided, Presence, agreement, rightness
from ...existence.calibration import Kind
from ...existence.decisions import decide
from ...existence.scores import RoiScorer, load_scorer
from ...existence.thresholds import decision_thresholds
from ...files import atomic_write
from ...progress import Progress
from ...volumes.full_truth import link_with_full_truth
from ...volumes.store import open_volume
from ..command import stage_command
from .settings import Execution, Inputs, Outputs, Settings

_CROPS = 1024
"""How many of a training's first samples are compared."""

Scores = NDArray[np.float32]
Variant = tuple[str, bool]
"""Calibration of the scores, and whether they are averages over the mirrored patches."""


@dataclass(frozen=True, eq=False)
class Patches:
    """N patches: which of K ROIs each labels (bool) and holds, and its scores, by how they were made (N K each)."""

    labelled: NDArray[np.bool_]
    truth: Presence
    scores: Mapping[tuple[str, Variant], Scores]


def run(settings: Settings, execution: Execution, inputs: Inputs, outputs: Outputs) -> None:
    """Compare cached with online decisions on training crops, and both with what the patches hold."""
    cases = scored_cases(
        settings.cases, settings.labelled, settings.rois, [path.parent for path in inputs.cases], inputs.existence
    )
    device = compute_device(execution.device)
    with TemporaryDirectory(prefix="lacuna-") as scratch:
        cases = with_full_truth(cases, inputs, Path(scratch))
        crops = training_crops(settings, inputs, cases, device)
        known = [case for case in cases if has_full_truth(case, inputs)]
        pool = pooled_patches(settings, inputs, known, device)
    kinds = {"training crops": crops} if pool is None else {"training crops": crops, "pool": pool}
    rows = [row for kind, patches in kinds.items() for row in decision_rows(settings, inputs, kind, patches)]
    write_table(outputs.decisions, rows)
    write_table(outputs.agreement, agreement_rows(settings, inputs, crops))


def has_full_truth(case: TrainingCase, inputs: Inputs) -> bool:
    return case.dataset in {folder.name for folder in inputs.truth}


def with_full_truth(cases: Sequence[TrainingCase], inputs: Inputs, scratch: Path) -> tuple[TrainingCase, ...]:
    """The cases, those with full truth as volumes below `scratch` whose labels are all that is there."""
    folders = {folder.name: folder for folder in inputs.truth}
    progress = Progress("check_existence: truth", len(cases), "cases")
    found = []
    for case in cases:
        if has_full_truth(case, inputs):
            truth = folders[case.dataset] / f"{case.name}.nii.gz"
            volume = link_with_full_truth(open_volume(case.folder), truth, scratch / case.dataset / case.name)
            case = replace(case, folder=volume.folder)
        found.append(case)
        progress.advance()
    return tuple(found)


def training_crops(
    settings: Settings, inputs: Inputs, cases: tuple[TrainingCase, ...], device: torch.device
) -> Patches:
    """The weak views of a training's first samples, with the cached scores of their crops and their own."""
    plan = CropPlan(len(cases), min(len(case.pool) for case in cases), epochs=1, batch_size=1, seed=settings.seed)
    reader = CropReader(cases, plan, settings.patches.shape, settings.weak)
    view_maker = ViewMaker(None, settings.patches.shape, settings.window_hu, settings.seed, device)
    cached, online = configured(settings), (settings.existence.calibration, False)
    scorer = scorer_of(settings, inputs, online, device)
    progress = Progress("check_existence: training crops", _CROPS, "crops")
    labelled, known, present, own, pools = [], [], [], [], []
    for first in range(0, _CROPS, settings.existence.batch):
        samples = range(first, min(first + settings.existence.batch, _CROPS))
        batch = view_maker.batch([reader.read(sample) for sample in samples])
        full = [has_full_truth(cases[plan.crop(sample).case], inputs) for sample in samples]
        labelled.append(batch.labelled)
        known.append(batch.labelled | torch.tensor(full, device=device)[:, None])
        present.append(batch.labelled_voxels >= settings.least_voxels)
        pools.append(batch.scores)
        own.append(scorer(batch.weak))
        progress.advance(len(samples))
    return Patches(
        joined(labelled),
        Presence(joined(present), joined(known)),
        {("cached", cached): joined(pools), ("online", online): joined(own)},
    )


def pooled_patches(
    settings: Settings, inputs: Inputs, cases: Sequence[TrainingCase], device: torch.device
) -> Patches | None:
    """All pooled patches of `cases`, whose full truth is known, scored in every variant; None if there is no case."""
    if not cases:
        return None
    scorers = {
        variant: scorer_of(settings, inputs, variant, device)
        for variant in product(("none", *get_args(Kind)), (False, True))
    }
    shape = settings.patches.shape
    progress = Progress("check_existence: pools", len(cases), "cases")
    labelled, present = [], []
    scores: dict[tuple[str, Variant], list[Tensor]] = {("cached", variant): [] for variant in scorers}
    for case in cases:
        volume = open_volume(case.folder)
        for images in patch_images(volume, case.pool, shape, settings.existence.batch, device):
            mirrored = scorers["none", True].logits(images)
            for variant, scorer in scorers.items():
                logits = mirrored if scorer.average_flips else mirrored[:1]
                scores["cached", variant].append(scorer.roi_scores(logits))
        present.append(voxels_in_patches(volume, case.pool, shape) >= settings.least_voxels)
        labelled.append(np.broadcast_to(case.labelled, present[-1].shape))
        progress.advance()
    truth = np.concatenate(present)
    return Patches(
        np.concatenate(labelled),
        Presence(truth, np.ones_like(truth)),
        {variant: joined(parts) for variant, parts in scores.items()},
    )


def agreement_rows(settings: Settings, inputs: Inputs, crops: Patches) -> Iterator[dict[str, Any]]:
    """One row per rule and ROI: cached against online decisions on the crops that do not label the ROI."""
    for name, rule in settings.rules.items():
        cached, online = (
            decided(settings, inputs, rule, variant, scores) for (_, variant), scores in crops.scores.items()
        )
        for number, roi in enumerate(settings.rois):
            yield {"methods": name, "roi": roi, **agreement(cached, online, number, ~crops.labelled[:, number])}


def decision_rows(settings: Settings, inputs: Inputs, kind: str, patches: Patches) -> Iterator[dict[str, Any]]:
    """One row per rule, way to score, and ROI: on the patches that do not label it and, apart, on those that do."""
    for (name, rule), ((made, variant), scores) in product(settings.rules.items(), patches.scores.items()):
        thresholds = decision_thresholds(rule, settings.structures, inputs.metrics, variant[0])
        decisions = decided(settings, inputs, rule, variant, scores)
        for number, roi in enumerate(settings.rois):
            organ = settings.organs[number]
            for role, chosen in (
                ("unlabelled", ~patches.labelled[:, number]),
                ("labelled", patches.labelled[:, number]),
            ):
                yield {
                    "methods": name,
                    "patches_of": kind,
                    "scores": made,
                    "calibration": variant[0],
                    "average_flips": variant[1],
                    "roi": roi,
                    "role": role,
                    "positive_above": float(thresholds.positive_above[number]),
                    "negative_below": float(thresholds.negative_below[number]),
                    **rightness(
                        decisions,
                        patches.truth,
                        number,
                        None if organ is None else settings.rois.index(organ),
                        chosen,
                    ),
                }


def decided(settings: Settings, inputs: Inputs, rule: Method, variant: Variant, scores: Scores) -> Decided:
    """What `rule` decides by these scores (N K), for labelled ROIs too, as if they were not."""
    thresholds = decision_thresholds(rule, settings.structures, inputs.metrics, variant[0])
    tensor = torch.from_numpy(scores)
    decisions = decide(torch.zeros(tensor.shape, dtype=torch.bool), tensor, thresholds)
    return Decided(decisions.positive.numpy(), decisions.negative.numpy())


def configured(settings: Settings) -> Variant:
    return settings.existence.calibration, settings.existence.average_flips


def scorer_of(settings: Settings, inputs: Inputs, variant: Variant, device: torch.device) -> RoiScorer:
    calibration, average_flips = variant
    existence = settings.existence.model_copy(update={"calibration": calibration})
    return load_scorer(inputs.model, inputs.metrics, settings.structures, existence, device, average_flips)


def write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with atomic_write(path) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False, float_format="%.6g")


def joined(parts: Sequence[Tensor]) -> NDArray[Any]:
    return torch.cat(list(parts)).cpu().numpy()


if __name__ == "__main__":
    stage_command(run, Settings, Inputs, Outputs, execution=Execution)
