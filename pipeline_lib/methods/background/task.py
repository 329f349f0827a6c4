"""The lower bound: Eq. 1 on every ROI, as if what is not labelled were not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from ...config.method_settings import SupervisedLoss
from ...data.batches import Batch
from ...training.task import Losses
from ..label_counts import label_counts
from ..one_student import OneStudent
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from .settings import Background


class BackgroundTask(OneStudent):
    """Eq. 1 on all ROIs `names`; the student sees x_S."""

    terms = Background.terms

    def __init__(self, *, student: nn.Module, names: tuple[str, ...], supervised: SupervisedLoss) -> None:
        super().__init__(student, names)
        self.supervised = supervised

    @classmethod
    def build(cls, settings: Background, ingredients: Ingredients) -> Self:
        return cls(student=ingredients.new_network(), names=ingredients.rois, supervised=settings.supervised)

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        logits = networks["student"](batch.strong)
        supervised = background_loss(logits, batch.labels, batch.labelled, self.supervised, batch.known)
        return Losses(supervised, {"supervised": supervised}, label_counts(logits, batch))


def background_loss(
    logits: Tensor, labels: Tensor, labelled: Tensor, settings: SupervisedLoss, known: Tensor | None = None
) -> Tensor:
    """Eq. 1 of all ROIs, unlabelled ones being nowhere: B K D H W, bool B K D H W, bool B K → B.

    With `known` (bool B K D H W) the other voxels of labelled ROIs are left out.
    """
    of_labelled = labelled[:, :, None, None, None]
    counted = None if known is None else known | ~of_labelled
    return supervised_loss(logits, labels & of_labelled, torch.ones_like(labelled), settings, counted)
