"""Learning from labels alone (Eq. 1)."""

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
from .settings import LabelsAlone


class LabelsAloneTask(OneStudent):
    """Eq. 1 for the ROIs `names`; the student sees x_S.

    If it has parts for each of `datasets` (networks.per_data_set), a sample is seen by those of its own.
    """

    terms = LabelsAlone.terms

    def __init__(
        self, *, student: nn.Module, names: tuple[str, ...], supervised: SupervisedLoss, datasets: tuple[str, ...]
    ) -> None:
        super().__init__(student, names)
        self.supervised, self.datasets = supervised, datasets
        self.per_data_set = getattr(student, "answers_per_data_set", False)

    @classmethod
    def build(cls, settings: LabelsAlone, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            supervised=settings.supervised,
            datasets=ingredients.datasets,
        )

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        logits = networks["student"](*self._inputs(batch))
        supervised = supervised_loss(logits, batch.labels, batch.labelled, self.supervised, batch.known)
        return Losses(supervised, {"supervised": supervised}, label_counts(logits, batch))

    def _inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        if not self.per_data_set:
            return (batch.strong,)
        places = [self.datasets.index(name) for name in batch.datasets]
        return batch.strong, torch.tensor(places, device=batch.strong.device)
