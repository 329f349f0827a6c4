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
        rois = drawn_rois(batch.labelled, self.seed, batch.samples)
        logits, labels = networks["student"](batch.strong, rois), batch.labels
        own = labels[torch.arange(len(rois), device=rois.device), rois][:, None]
        supervised = supervised_loss(logits, own, torch.ones_like(rois, dtype=torch.bool)[:, None], self.supervised)
        drawn = torch.zeros_like(batch.labelled).scatter(1, rois[:, None], True)
        counts = {"labelled": batch.labelled, **present_and_found(logits.expand_as(labels), labels, drawn)}
        return Losses(supervised, {"supervised": supervised}, counts)


def drawn_rois(labelled: Tensor, seed: int, samples: tuple[int, ...]) -> Tensor:
    """One labelled ROI of each sample, all equally likely: bool B K → int64 B."""
    known = [row.nonzero().flatten().tolist() for row in labelled.cpu()]
    draws = [random_generator("drawn ROI", seed, sample) for sample in samples]
    rois = [own[int(draw.integers(len(own)))] for own, draw in zip(known, draws, strict=True)]
    return torch.tensor(rois, device=labelled.device)
