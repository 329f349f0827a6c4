"""The paper's method: latent and ambiguous ROIs learn from a mean teacher (Eq. 1 to 4 of [LC]).

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...config.method_settings import Teacher
from ...data.batches import Batch
from ...existence.decisions import decide
from ...existence.scores import RoiScorer
from ...networks.probabilities import probabilities
from ...training.task import Losses
from ..ema_teacher import EmaTeacher
from ..exclusive_organs import exclusive_rois
from ..label_counts import label_counts
from ..ramp_up import teacher_weight
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from ..teacher_losses import consistency_loss, latent_loss
from .settings import LatentClass


class LatentClassTask:
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
        structures: tuple[tuple[str, ...], ...],
        scorer: RoiScorer | None,
    ) -> None:
        self.student, self.names, self.settings, self.scorer = student, names, settings, scorer
        self.networks = {"student": student}
        self.terms = {
            term: title for term, title in settings.terms.items() if settings.consistency or term != "consistency"
        }
        self.teacher = EmaTeacher(student, teacher)
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
        logits, known = networks["student"](batch.strong), batch.known
        supervised = supervised_loss(logits, batch.labels, batch.labelled, settings.supervised, known)
        scores = batch.scores if self.scorer is None else self.scorer(batch.weak)
        if known is None:
            where, decisions = None, decide(batch.labelled, scores, settings.decision)
        else:
            # A ROI that is labelled but for some voxels is decided on too, for these.
            where, throughout = ~known, batch.labelled & known.flatten(2).all(2)
            decisions = decide(throughout, scores, settings.decision, batch.labelled_voxels > 0)
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

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """One sigmoid per ROI."""
        return probabilities(logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher.network}

    def after_update(self) -> None:
        self.teacher.update(self.student)

    def state_dict(self) -> dict[str, Any]:
        return self.teacher.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher.load_state_dict(state)
