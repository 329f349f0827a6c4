"""The task of the ROI-aware network: which structures does a patch contain ([LC], section 2: binary classification)."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import nn

from ..data.batches import Batch
from ..training.task import Losses, Stateless


class StructurePresence(Stateless):
    """Multi-label binary cross-entropy over the structures `names`, averaged over those that a sample labels.

    A structure is present if the augmented patch x_T contains at least `least_voxels` of it. One that a sample does not
    label is left out of its loss: one that its case does not label, one of which voxels are unknown and too few are
    known, and where x_T is flipped along x one whose other side is not among the structures.
    """

    terms: Mapping[str, str] = {}

    def __init__(self, student: nn.Module, names: tuple[str, ...], least_voxels: int) -> None:
        self.student, self.names, self.least_voxels = student, names, least_voxels
        self.networks = {"student": student}

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each structure was present."""
        present, labelled = batch.presence(self.least_voxels)
        terms = F.binary_cross_entropy_with_logits(
            networks["student"](batch.weak).float(), present.float(), reduction="none"
        )
        mean = terms.where(labelled, 0).sum(1) / labelled.sum(1).clamp(min=1)
        return Losses(mean, counts={"positive": present & labelled})
