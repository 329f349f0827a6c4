"""Hermes: labels alone, with a Tversky loss that weighs what is wrong more often.

Gao et al.: "Training like a medical resident: Context-prior learning toward universal medical image segmentation", CVPR
2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from ...data.batches import Batch
from ...networks.probabilities import at_least_float32, probabilities
from ...training.task import Losses
from ..averaged_student import AveragedStudent
from ..label_counts import label_counts
from ..roi_maps import mean_over_rois, mean_over_voxels, selected_maps, with_known_voxels
from ..segmentation_task import Ingredients
from .settings import Hermes

_EPSILON = 1e-6
_WEIGHTS = (0.2, 0.8)


class HermesTask(AveragedStudent):
    """Both terms of the labelled ROIs; the student sees x_S. The teacher teaches nothing: it is there to predict."""

    terms = Hermes.terms

    @classmethod
    def build(cls, settings: Hermes, ingredients: Ingredients) -> Self:
        return cls(ingredients.new_network(), ingredients.rois, ingredients.teacher)

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        asks, known = getattr(self.student, "asks_for_labelled", False), batch.known
        labelled = with_known_voxels(batch.labelled, known)
        logits = networks["student"](batch.strong, *((labelled,) if asks else ()))
        student = at_least_float32(selected_maps(logits, labelled))
        truth = selected_maps(batch.labels, labelled).to(student.dtype)
        where = None if known is None else selected_maps(known, labelled)
        cross_entropy = mean_over_voxels(F.binary_cross_entropy_with_logits(student, truth, reduction="none"), where)
        # What is neither predicted nor labelled is not in the Tversky loss.
        predicted = probabilities(student) if where is None else probabilities(student).where(where, 0)
        terms = {
            "cross_entropy": mean_over_rois(cross_entropy, labelled),
            "tversky": mean_over_rois(adaptive_tversky(predicted, truth), labelled),
        }
        return Losses(terms["cross_entropy"] + terms["tversky"], terms, label_counts(logits, batch))


def adaptive_tversky(p: Tensor, y: Tensor) -> Tensor:
    """1 − TP / (TP + α·FP + (1 − α)·FN + 1e-6) of each row: N V, N V → N.

    α is the share of false positives in what is wrong, FP / (FP + FN + 1e-6), within 0.2…0.8. As in the published code
    it has a gradient. A ROI that is absent costs a constant 1.
    """
    true = (p * y).sum(1)
    false_positive, false_negative = p.sum(1) - true, y.sum(1) - true
    alpha = (false_positive / (false_positive + false_negative + _EPSILON)).clamp(*_WEIGHTS)
    return 1 - true / (true + alpha * false_positive + (1 - alpha) * false_negative + _EPSILON)
