"""Latent classes without confirmation: only what is certain is taught as certain.

The paper's Eq. 2 sharpens the teacher's output, so a teacher that takes one organ for another confirms itself
(docs/evidence.md). Here an unlabelled ROI has two sources. It is not where a rival is labelled (as in Jenke et al.,
"One model to use them all", 2024), and nowhere in a patch that the ROI-aware network finds it absent from: hard
negatives. Elsewhere it is kept consistent with the teacher, by Eq. 3 of [LC], after its output has been made exclusive.

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.batches import Batch
from ...networks.probabilities import at_least_float32, probabilities
from ...training.task import Losses
from ..deciding_student import DecidingStudent, unlabelled_counts, unlabelled_decisions
from ..exclusive_organs import Rivals
from ..label_counts import label_counts
from ..negatives import labelled_as_rival
from ..pseudo_labels import PseudoLabels
from ..roi_maps import mean_over_rois, selected_maps, told_voxels
from ..supervised_loss import supervised_loss
from ..teacher_losses import consistency_loss
from .settings import Lacuna


class LacunaTask(DecidingStudent[Lacuna]):
    """Eq. 1, the exclusion term and Eq. 3; the student sees x_S, its teacher x_T."""

    terms = Lacuna.terms

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts what each ROI was in each sample."""
        settings, labels, labelled, known = self.settings, batch.labels, batch.labelled, batch.known
        logits = networks["student"](batch.strong)
        supervised = supervised_loss(logits, labels, labelled, settings.supervised, known)
        decisions, where = self.decided(batch)
        ruled_out = ruled_out_voxels(labels, labelled, decisions.negative, self.rivals, known)
        exclusion = exclusion_loss(logits, ruled_out)
        consistency = torch.zeros_like(supervised)
        weight = self.teacher_weight(progress)
        if weight > 0:
            teacher = self.teacher.logits(batch, self.rivals)
            consistency = consistency_loss(logits, teacher, decisions.positive | decisions.ambiguous, where)
        total = supervised + settings.exclusion_weight * exclusion + weight * settings.consistency_weight * consistency
        terms = {"supervised": supervised, "exclusion": exclusion, "consistency": consistency}
        return Losses(total, terms, {**unlabelled_counts(decisions, batch), **label_counts(logits, batch)})

    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        """The teacher's exclusive output, but nothing where the ROI is ruled out."""
        decisions, _ = self.decided(batch)
        ruled_out = ruled_out_voxels(batch.labels, batch.labelled, decisions.negative, self.rivals, batch.known)
        return PseudoLabels(
            (self.teacher.logits(batch, self.rivals) >= 0) & ~ruled_out, unlabelled_decisions(decisions)
        )


def ruled_out_voxels(
    labels: Tensor, labelled: Tensor, absent: Tensor, rivals: Rivals, known: Tensor | None = None
) -> Tensor:
    """Where unlabelled ROIs cannot be: at labels of their rivals, and where they are `absent` everywhere.

    `labels` bool B K D H W, `labelled` and `absent` bool B K → bool B K D H W, false for labelled ROIs. With `known`
    (bool B K D H W) a ROI is unlabelled wherever its label is not known.
    """
    negatives, _ = labelled_as_rival(labels, labelled, rivals, known)
    return (negatives | absent[:, :, None, None, None]) & ~told_voxels(labelled, known)


def exclusion_loss(logits: Tensor, ruled_out: Tensor) -> Tensor:
    """Cross-entropy with target 0 plus the mean probability, both where a ROI is `ruled_out`.

    `logits` B K D H W, `ruled_out` bool B K D H W → B, in at least float32. As in Eq. 1, the cross-entropy is
    a mean over the whole patch. The probability is a mean over the voxels in question, so a small organ is as much
    evidence as a large one. Both are means over the ROIs that are ruled out somewhere.
    """
    selected = ruled_out.flatten(2).any(2)
    where = selected_maps(ruled_out, selected)
    own = at_least_float32(selected_maps(logits, selected))
    # Cross-entropy of σ(z) with target 0 is −log(1 − σ(z)) = softplus(z).
    cross_entropy = F.softplus(own).where(where, 0).mean(1)
    false_share = probabilities(own).where(where, 0).sum(1) / where.sum(1)
    return mean_over_rois(cross_entropy + false_share, selected)
