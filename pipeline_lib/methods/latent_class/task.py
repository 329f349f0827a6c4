"""The paper's method: latent and ambiguous ROIs learn from a mean teacher (Eq. 1 to 4 of [LC]).

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import nn

from ...config.method_settings import Teacher
from ...data.batches import Batch
from ...existence.scores import Scorer
from ...training.task import Losses
from ..decided import decided
from ..exclusive_organs import Structures, exclusive_rois
from ..label_counts import label_counts
from ..ramp_up import teacher_weight
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from ..taught_student import TaughtStudent
from ..teacher_losses import consistency_loss, latent_loss
from .settings import LatentClass


class LatentClassTask(TaughtStudent):
    """Eq. 1 to 4 for the ROIs `names`; the student sees x_S, its teacher x_T.

    Existence scores come with the batch, or with a `scorer` from x_T in every step, as in the paper. `structures` are
    those that decide each ROI's existence; with `exclusive_organs` they say which ROIs are rivals.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        names: tuple[str, ...],
        settings: LatentClass,
        teacher: Teacher,
        structures: Structures,
        scorer: Scorer | None,
    ) -> None:
        super().__init__(student, names, teacher)
        self.settings, self.scorer = settings, scorer
        self.terms = {
            term: title for term, title in settings.terms.items() if settings.consistency or term != "consistency"
        }
        self.rivals = exclusive_rois(structures) if settings.exclusive_organs else None

    @classmethod
    def build(cls, settings: LatentClass, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            settings=settings,
            teacher=ingredients.teacher,
            structures=ingredients.structures,
            scorer=ingredients.scorer,
        )

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts what each ROI was in each sample."""
        settings = self.settings
        logits = networks["student"](batch.strong)
        supervised = supervised_loss(logits, batch.labels, batch.labelled, settings.supervised, batch.known)
        scores = batch.scores if self.scorer is None else self.scorer(batch.weak)
        decisions, where = decided(batch, scores, settings.decision)
        terms = {name: torch.zeros_like(supervised) for name in self.terms} | {"supervised": supervised}
        weight = teacher_weight(progress, settings.warmup_fraction, settings.rampup_fraction)
        total = supervised
        if weight > 0:
            teacher = self.teacher.logits(batch, self.rivals)
            terms["latent"] = latent_loss(logits, teacher, decisions.latent, settings.sharpening_temperature, where)
            total = total + weight * settings.latent_weight * terms["latent"]
            if settings.consistency:
                terms["consistency"] = consistency_loss(logits, teacher, decisions.ambiguous, where)
                total = total + weight * settings.consistency_weight * terms["consistency"]
        unlabelled = {name: mask & ~batch.labelled for name, mask in vars(decisions).items()}
        return Losses(total, terms, {**unlabelled, **label_counts(logits, batch)})
