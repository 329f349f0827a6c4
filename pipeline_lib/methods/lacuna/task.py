"""The paper's terms, and certain pseudo labels that count.

The paper's Eq. 2 sharpens whatever the teacher says. Its mean over all voxels of a patch weighs hardly anything beside
the Dice term of Eq. 1, and with more weight it confirms a teacher that takes one organ for another, or finds it where
it is not (docs/evidence.md). So Eq. 2 and 3 stay as they are, from the first step, and a third term counts and teaches
less. Of a positive ROI the student learns the voxels that the teacher is certain of, unless the teacher sees nothing of
it, against its existence score. Of a negative one it learns only where the ROI is not. The teacher's output is made
exclusive first, so that a label of one organ is a certain negative of all others. (So is a rival that the teacher
finds, also one whose own score denies it.) Confidence thresholds for pseudo labels are those of Sohn et al.,
"FixMatch", NeurIPS 2020.

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.method_settings import SHARPENING_TEMPERATURE
from ...data.batches import Batch
from ...existence.decisions import Decisions
from ...networks.probabilities import at_least_float32
from ...training.task import Losses
from ..deciding_student import DecidingStudent, unlabelled_counts, unlabelled_decisions
from ..label_counts import label_counts
from ..pseudo_labels import PseudoLabels
from ..roi_maps import mean_over_voxels_and_rois, selected_maps
from ..supervised_loss import supervised_loss
from ..teacher_losses import consistency_loss, latent_loss
from .settings import Lacuna


class LacunaTask(DecidingStudent[Lacuna]):
    """Eq. 1 to 3, and certain pseudo labels; the student sees x_S, its teacher x_T."""

    terms = Lacuna.terms

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts what existence scores decided about each ROI of each sample."""
        settings, weight = self.settings, self.teacher_weight(progress)
        decisions, where = self.decided(batch)
        teacher = self.teacher.logits(batch, self.rivals)
        logits = networks["student"](batch.strong)
        supervised = supervised_loss(logits, batch.labels, batch.labelled, settings.supervised, batch.known)
        latent = latent_loss(logits, teacher, decisions.latent, SHARPENING_TEMPERATURE, where)
        consistency = consistency_loss(logits, teacher, decisions.ambiguous, where)
        certain = torch.zeros_like(supervised)
        if weight > 0:
            certain = certain_loss(logits, teacher, decisions, settings, where)
        total = supervised + latent + consistency + weight * settings.certain_weight * certain
        terms = {"supervised": supervised, "latent": latent, "consistency": consistency, "certain": certain}
        by_scores = {} if settings.decision is None else unlabelled_counts(decisions, batch)
        return Losses(total, terms, {**by_scores, **label_counts(logits, batch)})

    def pseudo_labels(self, batch: Batch) -> PseudoLabels:
        """The targets of Eq. 2 and 3, one organ per voxel; certain pseudo labels are some of them."""
        masks = self.teacher.logits(batch, self.rivals) >= 0
        if self.settings.decision is None:
            return PseudoLabels.of_unlabelled(masks, batch)
        decisions, _ = self.decided(batch)
        return PseudoLabels(masks, unlabelled_decisions(decisions))


def certain_loss(
    student_logits: Tensor, teacher_logits: Tensor, decisions: Decisions, settings: Lacuna, where: Tensor | None = None
) -> Tensor:
    """Cross-entropy of latent ROIs with the teacher's side of 1/2, at the voxels that `certain_voxels` leaves.

    Both logits B K D H W → B, in at least float32. As in Eq. 2 it is a mean over all voxels of the latent ROIs; what is
    not taught counts as 0, so that a ROI of which little is certain weighs little. With `where` (bool B K D H W) over
    these voxels alone.
    """
    latent = decisions.latent
    student = at_least_float32(selected_maps(student_logits, latent))
    teacher = at_least_float32(selected_maps(teacher_logits.detach(), latent))
    within = None if where is None else selected_maps(where, latent)
    taught = certain_voxels(teacher, decisions.positive[latent], settings, within)
    cross_entropy = F.binary_cross_entropy_with_logits(student, (teacher > 0).to(student.dtype), reduction="none")
    return mean_over_voxels_and_rois(cross_entropy.where(taught, 0), latent, where)


def certain_voxels(teacher: Tensor, positive: Tensor, settings: Lacuna, within: Tensor | None) -> Tensor:
    """The voxels at which a latent ROI is taught: logits … V, and whether each is `positive`, bool … → bool … V.

    Of a positive ROI that the teacher sees (`seen_voxels`), those that it is certain of, inside or outside; of one that
    it does not see, none. Of a negative ROI, those that it is certain are outside. With `within` (bool … V) only these
    voxels show that it sees a ROI.
    """
    threshold = math.log(settings.certainty / (1 - settings.certainty))
    inside, outside = teacher >= threshold, teacher <= -threshold
    counted = inside if within is None else inside & within
    seen = counted.sum(-1, keepdim=True) >= settings.seen_voxels
    return torch.where(positive[..., None], (inside | outside) & seen, outside)
