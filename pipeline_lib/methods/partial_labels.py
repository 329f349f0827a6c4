"""The task of the segmentation networks: partial labels, and what the teacher says about the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..config.methods import Method, Teacher
from ..data.batches import Batch
from ..existence.decisions import Thresholds, decide
from ..existence.scores import RoiScorer
from ..training.schedule import teacher_weight
from ..training.silent_rois import present_and_found
from ..training.task import Losses
from .ema_teacher import MeanTeacher
from .exclusive_organs import exclusive_logits, exclusive_rois
from .losses import consistency_loss, latent_loss, supervised_loss, total_loss


class PartialLabels:
    """Equations 1 to 4 of [LC] for the ROIs `names`, whose existence `structures` decide.

    The student sees x_S; its teacher, for the methods that have one, x_T. Existence scores come with the batch, or
    with a `scorer` from x_T in every step, as in the paper; `thresholds` decide by them.
    """

    def __init__(
        self,
        student: nn.Module,
        method: Method,
        thresholds: Thresholds,
        teacher: Teacher,
        names: tuple[str, ...],
        structures: tuple[tuple[str, ...], ...],
        scorer: RoiScorer | None,
    ) -> None:
        self.student, self.method, self.names, self.scorer = student, method, names, scorer
        self.thresholds = thresholds
        self.rivals = exclusive_rois(structures)
        self.teacher = MeanTeacher(student, teacher) if method.needs_teacher else None

    def losses(self, network: nn.Module, batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts what each ROI was in each sample."""
        logits, labels = network(batch.strong), batch.labels
        supervised = supervised_loss(logits, labels, batch.labelled, self.method)
        scores = batch.scores if self.scorer is None else self.scorer(batch.weak)
        decisions = decide(batch.labelled, scores, self.thresholds)
        weight = teacher_weight(progress, self.method)
        if self.teacher is None or weight == 0:
            latent = consistency = torch.zeros_like(supervised)
        else:
            teacher_logits = self._teacher_logits(batch, labels)
            latent = latent_loss(logits, teacher_logits, decisions, self.method)
            consistency = consistency_loss(logits, teacher_logits, decisions, self.method)
        counts = {"labelled": decisions.labelled, **present_and_found(logits, labels, batch.labelled)}
        if self.method.needs_existence:
            counts |= {
                "positive": decisions.positive,
                "negative": decisions.negative,
                "ambiguous": decisions.ambiguous,
            }
        return Losses(
            total_loss(supervised, latent, consistency, self.method, weight),
            {"supervised": supervised, "latent": latent, "consistency": consistency},
            counts,
        )

    def after_update(self) -> None:
        if self.teacher is not None:
            self.teacher.update(self.student)

    def state_dict(self) -> dict[str, Any]:
        if self.teacher is None:
            return {}
        return {"teacher": self.teacher.network.state_dict(), "updates": self.teacher.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.teacher is not None:
            self.teacher.network.load_state_dict(state["teacher"])
            self.teacher.updates = state["updates"]

    @torch.no_grad()
    def _teacher_logits(self, batch: Batch, labels: Tensor) -> Tensor:
        assert self.teacher is not None
        logits = self.teacher.network(batch.weak)
        if not self.method.exclusive_organs:
            return logits
        return exclusive_logits(logits, labels, batch.labelled, self.rivals)
