"""CoNeMOS: each sample teaches one of the ROIs that it labels.

Billot et al.: "Network conditioning for synergistic learning on partial annotations", MIDL 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from ...config.method_settings import SupervisedLoss
from ...data.batches import Batch
from ...randomness import random_generator
from ...training.silent_rois import present_and_found
from ...training.task import Losses
from ..one_student import OneStudent
from ..roi_maps import with_known_voxels
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from .settings import Conemos


class ConemosTask(OneStudent):
    """Eq. 1 of the drawn ROI; the student sees x_S. Which of the ROIs `names` is drawn is keyed by (seed, sample)."""

    terms = Conemos.terms

    def __init__(self, *, student: nn.Module, names: tuple[str, ...], supervised: SupervisedLoss, seed: int) -> None:
        super().__init__(student, names)
        self.supervised, self.seed = supervised, seed

    @classmethod
    def build(cls, settings: Conemos, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            supervised=settings.supervised,
            seed=ingredients.seed,
        )

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts what is labelled, and what was found of the drawn ROIs."""
        labels, known = batch.labels, batch.known
        labelled = with_known_voxels(batch.labelled, known)
        rois = drawn_rois(labelled, self.seed, batch.samples)
        logits = networks["student"](batch.strong, rois)
        own, where = _of_rois(labels, rois), None if known is None else _of_rois(known, rois)
        supervised = supervised_loss(logits, own, labelled.gather(1, rois[:, None]), self.supervised, where)
        drawn = torch.zeros_like(labelled).scatter(1, rois[:, None], True) & labelled
        counts = {"labelled": batch.labelled, **present_and_found(logits.expand_as(labels), labels, drawn)}
        return Losses(supervised, {"supervised": supervised}, counts)


def drawn_rois(labelled: Tensor, seed: int, samples: tuple[int, ...]) -> Tensor:
    """One labelled ROI of each sample, all equally likely: bool B K → int64 B; 0 where none is labelled."""
    # A case may label nothing; its samples ask for some ROI, of which they teach nothing.
    choices = [row.nonzero().flatten().tolist() or [0] for row in labelled.cpu()]
    draws = [random_generator("drawn ROI", seed, sample) for sample in samples]
    rois = [own[int(draw.integers(len(own)))] for own, draw in zip(choices, draws, strict=True)]
    return torch.tensor(rois, device=labelled.device)


def _of_rois(maps: Tensor, rois: Tensor) -> Tensor:
    """The map of one of K ROIs of each sample: B K D H W, int64 B → B 1 D H W."""
    return maps[torch.arange(len(rois), device=rois.device), rois][:, None]
