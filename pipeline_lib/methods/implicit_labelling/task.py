"""Implicit labelling: a voxel that is labelled as one organ is a negative of every other organ.

Jenke et al.: "One model to use them all", International Journal of Computer Assisted Radiology and Surgery, 2024.
Theirs are binary data sets of exclusive classes. Here ROIs of one organ may overlap, so only rivals exclude each other
(exclusive_organs.py), and the loss is averaged over the whole patch, like Eq. 1: a small organ is little evidence.
Their normalisation is not known to us.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.method_settings import SupervisedLoss
from ...data.batches import Batch
from ...networks.probabilities import at_least_float32, probabilities
from ...training.task import Losses, Stateless
from ..exclusive_organs import Rivals, exclusive_rois
from ..label_counts import label_counts
from ..roi_maps import mean_over_voxels_and_rois, selected_maps
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from .settings import ImplicitLabelling


class ImplicitLabellingTask(Stateless):
    """Eq. 1 and the exclusion term for the ROIs `names`; the student sees x_S.

    `structures` are those that decide each ROI's existence; they say which ROIs are rivals.
    """

    terms = ImplicitLabelling.terms

    def __init__(
        self,
        *,
        student: nn.Module,
        names: tuple[str, ...],
        supervised: SupervisedLoss,
        exclusion_weight: float,
        structures: tuple[tuple[str, ...], ...],
    ) -> None:
        self.student, self.names, self.supervised, self.exclusion_weight = student, names, supervised, exclusion_weight
        self.networks = {"student": student}
        self.rivals = exclusive_rois(structures)

    @classmethod
    def build(cls, settings: ImplicitLabelling, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            supervised=settings.supervised,
            exclusion_weight=settings.label_exclusion_weight,
            structures=ingredients.structures,
        )

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        logits, labels = networks["student"](batch.strong), batch.labels
        supervised = supervised_loss(logits, labels, batch.labelled, self.supervised, batch.known)
        exclusion = exclusion_loss(logits, labels, batch.labelled, self.rivals, batch.known)
        return Losses(
            supervised + self.exclusion_weight * exclusion,
            {"supervised": supervised, "exclusion": exclusion},
            label_counts(logits, batch),
        )

    @staticmethod
    def probabilities(logits: Tensor) -> Tensor:
        """One sigmoid per ROI."""
        return probabilities(logits)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student}


def exclusion_loss(
    logits: Tensor, targets: Tensor, labelled: Tensor, rivals: Rivals, known: Tensor | None = None
) -> Tensor:
    """Cross-entropy, with target 0, of unlabelled ROIs at the voxels that are labelled as one of their rivals.

    `logits` B K D H W, `targets` bool B K D H W, `labelled` bool B K → B: a mean over all voxels of the patch, in at
    least float32, and over the unlabelled ROIs of which a rival is labelled. Targets of unlabelled ROIs are never read.
    With `known` (bool B K D H W) a ROI is unlabelled wherever its label is not known.
    """
    known_or_labelled = labelled[:, :, None, None, None] if known is None else known
    positives = targets.bool() & known_or_labelled
    unlabelled = ~labelled if known is None else ~known.flatten(2).all(2)
    negatives, selected = torch.zeros_like(positives), torch.zeros_like(labelled)
    for roi, others in enumerate(rivals):
        if others:
            negatives[:, roi] = positives[:, others].any(1)
            selected[:, roi] = unlabelled[:, roi] & labelled[:, others].any(1)
    # Cross-entropy of σ(z) with target 0 is −log(1 − σ(z)) = softplus(z).
    cross_entropy = F.softplus(at_least_float32(selected_maps(logits, selected)))
    where = None if known is None else ~known
    return mean_over_voxels_and_rois(cross_entropy * selected_maps(negatives, selected), selected, where)
