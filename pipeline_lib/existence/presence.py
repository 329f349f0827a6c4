"""The task of the ROI-aware network: which structures does a patch hold ([LC], section 2: binary classification)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.batches import Batch
from ..training.task import Losses

_HIGHEST_WEIGHT = 10.0
"""Highest weight of a rare structure's positive term: beyond it single patches would decide."""


class StructurePresence:
    """Multi-label binary cross-entropy over the structures `names`, a mean over them for each sample.

    A structure is present if the augmented patch x_T holds at least `least_voxels` of it. `positive_weight` (S)
    multiplies the positive terms.
    """

    def __init__(
        self, student: nn.Module, names: tuple[str, ...], least_voxels: int, positive_weight: Tensor | None
    ) -> None:
        self.student, self.names = student, names
        self.least_voxels, self.positive_weight = least_voxels, positive_weight

    def losses(self, network: nn.Module, batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each structure was present."""
        present = batch.labelled_voxels >= self.least_voxels
        terms = F.binary_cross_entropy_with_logits(
            network(batch.weak).float(), present.float(), pos_weight=self.positive_weight, reduction="none"
        )
        return Losses(terms.mean(1), counts={"positive": present})

    def after_update(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def positive_weights(positives: Tensor, patches: int) -> Tensor:
    """Negatives/positives of each structure from its count (S) among `patches`, at most 10; 10 where never seen."""
    return ((patches - positives) / positives.clamp(min=1)).clamp(max=_HIGHEST_WEIGHT).to(torch.float32)
