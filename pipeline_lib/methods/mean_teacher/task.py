"""Consistency with a mean teacher on every ROI, besides Eq. 1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import nn

from ...config.method_settings import Teacher
from ...data.batches import Batch
from ...training.task import Losses
from ..exclusive_organs import Structures, exclusive_rois
from ..label_counts import label_counts
from ..pseudo_labels import PseudoLabels
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from ..taught_student import TaughtStudent
from ..teacher_losses import consistency_loss
from .settings import MeanTeacher


class MeanTeacherTask(TaughtStudent):
    """Eq. 1 and Eq. 3 on all ROIs `names`; the student sees x_S, its teacher x_T.

    `structures` are those that decide each ROI's existence; with `exclusive_organs` they say which ROIs are rivals.
    """

    terms = MeanTeacher.terms

    def __init__(
        self,
        *,
        student: nn.Module,
        names: tuple[str, ...],
        settings: MeanTeacher,
        teacher: Teacher,
        structures: Structures,
    ) -> None:
        super().__init__(student, names, teacher)
        self.settings: MeanTeacher = settings
        self.rivals = exclusive_rois(structures) if settings.exclusive_organs else None

    @classmethod
    def build(cls, settings: MeanTeacher, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            settings=settings,
            teacher=ingredients.teacher,
            structures=ingredients.structures,
        )

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        weight = self.teacher_weight(progress)
        teacher = self.teacher.logits(batch, self.rivals) if weight > 0 else None
        logits = networks["student"](batch.strong)
        supervised = supervised_loss(logits, batch.labels, batch.labelled, self.settings.supervised, batch.known)
        consistency = torch.zeros_like(supervised)
        if teacher is not None:
            consistency = consistency_loss(logits, teacher, torch.ones_like(batch.labelled))
        return Losses(
            supervised + weight * self.settings.consistency_weight * consistency,
            {"supervised": supervised, "consistency": consistency},
            label_counts(logits, batch),
        )

    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        return PseudoLabels.of_unlabelled(self.teacher.logits(batch, self.rivals) >= 0, batch)
