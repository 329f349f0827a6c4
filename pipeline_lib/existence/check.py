"""Which decisions about existence are made on which patches, by cached and by online scores, and what the patches hold.

Nothing is learned from this: the stage check_existence writes it into two tables for people to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..config.augmentation import WeakView
from ..config.existence import DecisionRule
from ..config.method_settings import UNLABELLED_SHARE
from ..config.optimisation import Optimisation
from ..config.volumes import Patches
from ..data.batches import ViewMaker
from ..data.crops import CropPlan, TrainingCase
from ..data.mirroring import Partners
from ..data.patches import voxels_in_patches
from ..data.reading import CropReader
from ..progress import Progress
from ..volumes.store import open_volume
from .agreement import Decided, Presence, agreement, correctness
from .decisions import decide
from .scores import RoiScorer

Scores = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoredPatches:
    """N patches: which of K ROIs each labels (bool N K), which it contains, and its scores (N K) by their mode.

    The modes are `cached`, of the patch as it is, and `online`, of the augmented x_T.
    """

    labelled: NDArray[np.bool_]
    truth: Presence
    scores: Mapping[str, Scores]


def training_crops(
    cases: tuple[TrainingCase, ...],
    fully_known: Sequence[bool],
    scorer: RoiScorer,
    *,
    patches: Patches,
    weak: WeakView,
    partners: Partners,
    window_hu: tuple[float, float],
    least_voxels: int,
    batch: int,
    count: int,
    seed: int,
    device: torch.device,
) -> ScoredPatches:
    """The weak views of a training's first `count` samples, with the cached scores of their crops and their own.

    The training is one with `sampling: uniform_case` and the default `unlabelled_share`; others draw other crops.
    `fully_known` says for each case whether its labels are all that it contains; `partners` are the ROIs that a flip
    along x exchanges.
    """
    plan = CropPlan.from_cases(cases, Optimisation(epochs=1, batch_size=1), seed, unlabelled_share=UNLABELLED_SHARE)
    reader = CropReader(cases, plan, patches.shape, weak, partners)
    view_maker = ViewMaker(None, patches.shape, window_hu, seed, device)
    progress = Progress("check_existence: training crops", count, "crops")
    labelled, known, present, cached, online = [], [], [], [], []
    for first in range(0, count, batch):
        samples = range(first, min(first + batch, count))
        views = view_maker.batch([reader.read(sample) for sample in samples])
        full = [fully_known[plan.crop(sample).case] for sample in samples]
        labelled.append(views.labelled)
        there, told = views.presence(least_voxels)
        known.append(told | torch.tensor(full, device=device)[:, None])
        present.append(there)
        cached.append(views.scores)
        online.append(scorer(views.weak))
        progress.advance(len(samples))
    return ScoredPatches(
        _joined(labelled),
        Presence(_joined(present), _joined(known)),
        {"cached": _joined(cached), "online": _joined(online)},
    )


def pooled_patches(cases: Sequence[TrainingCase], patches: Patches, least_voxels: int) -> ScoredPatches | None:
    """All pooled patches of `cases`, whose labels are all that they contain, with their cached scores; None if none."""
    if not cases:
        return None
    progress = Progress("check_existence: pools", len(cases), "cases")
    labelled, present, scores = [], [], []
    for case in cases:
        assert case.scores is not None
        present.append(voxels_in_patches(open_volume(case.folder), case.pool, patches.shape) >= least_voxels)
        labelled.append(np.broadcast_to(case.labelled, present[-1].shape))
        scores.append(case.scores)
        progress.advance()
    truth = np.concatenate(present)
    return ScoredPatches(
        np.concatenate(labelled), Presence(truth, np.ones_like(truth)), {"cached": np.concatenate(scores)}
    )


def agreement_rows(
    rules: Mapping[str, DecisionRule], rois: Sequence[str], crops: ScoredPatches
) -> Iterator[dict[str, Any]]:
    """One row per rule and ROI: cached and online decisions on the crops that do not label the ROI."""
    for name, rule in rules.items():
        cached, online = (decided(rule, crops.scores[mode]) for mode in ("cached", "online"))
        for k, roi in enumerate(rois):
            yield {"methods": name, "roi": roi, **agreement(cached, online, k, ~crops.labelled[:, k])}


def decision_rows(
    rules: Mapping[str, DecisionRule],
    rois: Sequence[str],
    organs: Sequence[str | None],
    kind: str,
    patches: ScoredPatches,
) -> Iterator[dict[str, Any]]:
    """One row per rule, mode and ROI: on the patches that do not label the ROI and, separately, on those that do.

    `organs` has, for each ROI, the ROI whose existence it inherits, or None; `kind` names the patches.
    """
    for (name, rule), (mode, scores) in product(rules.items(), patches.scores.items()):
        decisions = decided(rule, scores)
        for k, (roi, organ) in enumerate(zip(rois, organs, strict=True)):
            of_organ = None if organ is None else rois.index(organ)
            for role, chosen in (("unlabelled", ~patches.labelled[:, k]), ("labelled", patches.labelled[:, k])):
                yield {
                    "methods": name,
                    "patches_of": kind,
                    "scores": mode,
                    "roi": roi,
                    "role": role,
                    "positive_above": rule.positive_above,
                    "negative_below": rule.negative_below,
                    **correctness(decisions, patches.truth, k, of_organ, chosen),
                }


def decided(rule: DecisionRule, scores: Scores) -> Decided:
    """What `rule` decides from `scores` (N K), for labelled ROIs too, as if they were not labelled."""
    tensor = torch.from_numpy(scores)
    decisions = decide(torch.zeros(tensor.shape, dtype=torch.bool), tensor, rule)
    return Decided(decisions.positive.numpy(), decisions.negative.numpy())


def _joined(parts: Sequence[Tensor]) -> NDArray[Any]:
    return torch.cat(list(parts)).cpu().numpy()
