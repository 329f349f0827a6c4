"""Learning from labels alone (Eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from ...config.method_settings import SupervisedLoss
from ...data.batches import Batch
from ...networks.probabilities import probabilities
from ...training.task import Losses, Stateless
from ..label_counts import label_counts
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from .settings import LabelsAlone


class LabelsAloneTask(Stateless):
    """Eq. 1 for the ROIs `names`; the student sees x_S."""

    terms = LabelsAlone.terms

    def __init__(self, *, student: nn.Module, names: tuple[str, ...], supervised: SupervisedLoss) -> None:
        self.student, self.names, self.supervised = student, names, supervised
        self.networks = {"student": student}

    @classmethod
    def build(cls, settings: LabelsAlone, ingredients: Ingredients) -> Self:
        return cls(student=ingredients.new_network(), names=ingredients.rois, supervised=settings.supervised)

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        logits = networks["student"](batch.strong)
        supervised = supervised_loss(logits, batch.labels, batch.labelled, self.supervised, batch.known)
        return Losses(supervised, {"supervised": supervised}, label_counts(logits, batch))

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """One sigmoid per ROI."""
        return probabilities(logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student}
