"""LTUDA's cross-set data augmentation: hard, exclusive pseudo labels, and CutMix between data sets.

Jiang et al.: "Labeled-to-unlabeled distribution alignment for partially-supervised multi-organ medical image
segmentation", Medical Image Analysis, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.method_settings import Teacher
from ...data.batches import Batch
from ...networks.probabilities import at_least_float32
from ...training.task import Losses
from ..cutmix import box_masks, mixed, partners
from ..exclusive_organs import Rivals, Structures, exclusive_logits, exclusive_rois
from ..label_counts import label_counts
from ..pseudo_labels import PseudoLabels
from ..roi_maps import told_voxels, with_known_voxels
from ..segmentation_task import Ingredients
from ..supervised_loss import supervised_loss
from ..taught_student import TaughtStudent
from .settings import CrossSetSettings, LtudaCda


class LtudaCdaTask(TaughtStudent):
    """Eq. 1 of x_S for the ROIs `names`, and both terms of each mixed copy of it; the teacher sees x_T.

    `structures` are those that decide each ROI's existence; they say which ROIs are rivals. Boxes are keyed by `seed`.
    """

    terms = LtudaCda.terms

    def __init__(
        self,
        *,
        student: nn.Module,
        names: tuple[str, ...],
        settings: CrossSetSettings,
        teacher: Teacher,
        structures: Structures,
        seed: int,
    ) -> None:
        super().__init__(student, names, teacher)
        self.settings: CrossSetSettings = settings
        self.seed = seed
        self.rivals = exclusive_rois(structures)

    @classmethod
    def build(cls, settings: CrossSetSettings, ingredients: Ingredients) -> Self:
        return cls(
            student=ingredients.new_network(),
            names=ingredients.rois,
            settings=settings,
            teacher=ingredients.teacher,
            structures=ingredients.structures,
            seed=ingredients.seed,
        )

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        boxes, weight = self._boxes(batch), self.teacher_weight(progress)
        # First, since a pass needs less memory while no activations of the student are kept.
        targets = self._targets(batch) if weight > 0 else None
        logits = networks["student"](views_of(batch, boxes))
        return self._losses_of(logits, batch, boxes, targets, weight)

    def _losses_of(
        self,
        logits: Tensor,
        batch: Batch,
        boxes: Sequence[Tensor],
        targets: Tensor | None,
        weight: float,
        labels_of_copies: bool = True,
    ) -> Losses:
        """Losses of the `logits` of `views_of(batch, boxes)`; `weight` is that of the `targets`, None if it is 0.

        Without `labels_of_copies` the term `mixed` is 0.
        """
        settings, labels, labelled, known = self.settings, batch.labels, batch.labelled, batch.known
        logits, *of_copies = logits.chunk(1 + len(boxes))
        supervised = supervised_loss(logits, labels, labelled, settings.supervised, known)
        terms = {
            "supervised": supervised,
            "pseudo": torch.zeros_like(supervised),
            "mixed": torch.zeros_like(supervised),
        }
        for copy, box in zip(of_copies, boxes, strict=True):
            if labels_of_copies:
                terms["mixed"] = terms["mixed"] + label_loss(copy, labels, labelled, box, known)
            if targets is not None:
                terms["pseudo"] = terms["pseudo"] + target_loss(copy, mixed(targets, box))
        total = supervised + settings.mixed_weight * (terms["mixed"] + weight * terms["pseudo"])
        return Losses(total, terms, label_counts(logits, batch))

    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        return PseudoLabels.of_unlabelled(self._targets(batch), batch)

    def _boxes(self, batch: Batch) -> list[Tensor]:
        """Of each mixed copy, bool B 1 D H W."""
        depth, height, width = batch.strong.shape[2:]
        key = ((depth, height, width), self.seed, batch.samples)
        return [box_masks(*key, view, batch.strong.device) for view in range(self.settings.mixed_views)]

    def _targets(self, batch: Batch) -> Tensor:
        return hard_targets(self.teacher.logits(batch), batch.labels, batch.labelled, self.rivals, batch.known)


def views_of(batch: Batch, boxes: Sequence[Tensor]) -> Tensor:
    """x_S and its copies that are mixed in the `boxes`, (1 + views)·B 1 D H W.

    They are one batch: DistributedDataParallel expects a single pass before it goes backward.
    """
    return torch.cat([batch.strong, *(mixed(batch.strong, box) for box in boxes)])


def hard_targets(
    teacher_logits: Tensor, labels: Tensor, labelled: Tensor, rivals: Rivals, known: Tensor | None = None
) -> Tensor:
    """What all ROIs are taught to be: their labels, or where they are unlabelled hard pseudo labels. bool B K D H W.

    An unlabelled ROI is taught to be where the teacher's probability is at least 1/2 and no rival is labelled or more
    likely. Where all ROIs are rivals, that is the publication's most likely organ or background; but here a rival that
    is labelled as absent does not count. With `known` (bool B K D H W) a ROI is unlabelled wherever its label is not
    known.
    """
    pseudo = exclusive_logits(teacher_logits, labels, labelled, rivals, known) >= 0
    return torch.where(told_voxels(labelled, known), labels, pseudo)


def target_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of all ROIs, mean over voxels and ROIs: B K D H W, bool B K D H W → B."""
    return _cross_entropy(logits, targets).flatten(1).mean(1)


def label_loss(logits: Tensor, labels: Tensor, labelled: Tensor, box: Tensor, known: Tensor | None = None) -> Tensor:
    """Cross-entropy of mixed samples with their labels, where they have any: B K D H W, …, bool B 1 D H W → B.

    A mean over all voxels, of which those count at which the ROI is labelled, inside the box by the partner, and with
    `known` (bool B K D H W) known; and over the ROIs that the sample or its partner labels.
    """
    labelled = with_known_voxels(labelled, known)
    told = told_voxels(labelled, known).expand_as(labels)
    of_rois = (_cross_entropy(logits, mixed(labels, box)) * mixed(told, box)).flatten(2).mean(2)
    return of_rois.sum(1) / (labelled | partners(labelled)).sum(1).clamp(min=1)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    wide = at_least_float32(logits)
    return F.binary_cross_entropy_with_logits(wide, targets.to(wide.dtype), reduction="none")
