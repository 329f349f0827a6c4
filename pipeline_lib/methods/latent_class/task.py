"""The paper's method: latent and ambiguous ROIs learn from a mean teacher (Eq. 1 to 4 of [LC]).

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...data.batches import Batch
from ...training.task import Losses
from ..deciding_student import DecidingStudent, unlabelled_counts, unlabelled_decisions
from ..label_counts import label_counts
from ..pseudo_labels import PseudoLabels
from ..supervised_loss import supervised_loss
from ..teacher_losses import consistency_loss, latent_loss
from .settings import LatentClass


class LatentClassTask(DecidingStudent[LatentClass]):
    """Eq. 1 to 4; the student sees x_S, its teacher x_T. With `exclusive_organs`, rivals count."""

    def __init__(self, *, settings: LatentClass, **ingredients: Any) -> None:
        super().__init__(settings=settings, **ingredients)
        self.terms = {
            term: title for term, title in settings.terms.items() if settings.consistency or term != "consistency"
        }

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts what each ROI was in each sample."""
        settings, weight = self.settings, self.teacher_weight(progress)
        decisions, where = self.decided(batch)
        teacher = self._teacher_logits(batch) if weight > 0 else None
        logits = networks["student"](batch.strong)
        supervised = supervised_loss(logits, batch.labels, batch.labelled, settings.supervised, batch.known)
        terms = {name: torch.zeros_like(supervised) for name in self.terms} | {"supervised": supervised}
        total = supervised
        if teacher is not None:
            terms["latent"] = latent_loss(logits, teacher, decisions.latent, settings.sharpening_temperature, where)
            total = total + weight * settings.latent_weight * terms["latent"]
            if settings.consistency:
                terms["consistency"] = consistency_loss(logits, teacher, decisions.ambiguous, where)
                total = total + weight * settings.consistency_weight * terms["consistency"]
        return Losses(total, terms, {**unlabelled_counts(decisions, batch), **label_counts(logits, batch)})

    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        """Negative latent ROIs have the teacher's output for their target too, as in the paper.

        Nothing is taught of ambiguous ones without Eq. 3.
        """
        decisions, _ = self.decided(batch)
        masks = self._teacher_logits(batch) >= 0
        if not self.settings.consistency:
            masks &= ~decisions.ambiguous[:, :, None, None, None]
        return PseudoLabels(masks, unlabelled_decisions(decisions))

    def _teacher_logits(self, batch: Batch) -> Tensor:
        return self.teacher.logits(batch, self.rivals if self.settings.exclusive_organs else None)
