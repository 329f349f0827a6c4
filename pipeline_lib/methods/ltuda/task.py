"""LTUDA: cross-set data augmentation, and then prototype-based alignment of labelled and unlabelled voxels too.

Jiang et al.: "Labeled-to-unlabeled distribution alignment for partially-supervised multi-organ medical image
segmentation", Medical Image Analysis, 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config.method_settings import Teacher
from ...data.batches import Batch
from ...networks.prototype_head import EMBEDDING_SIZE, PrototypeHead
from ...training.task import Losses
from ..exclusive_organs import Structures
from ..leaves import leaves_of
from ..ltuda_cda.task import LtudaCdaTask, views_of
from ..prototypes import assigned, moved, prototype_loss
from .settings import Ltuda
from .voxels import DrawnVoxels, at_voxels, drawn_places

_BANKS = ("labelled_prototypes", "unlabelled_prototypes")
_BACKGROUND = 0
"""The empty leaf."""


class LtudaTask(LtudaCdaTask):
    """As `LtudaCdaTask`; in the second part of the training, voxels of mixed copies are also told apart by prototypes.

    The student's last features are projected by a head that learns with it, is kept in checkpoints and is not part of
    any prediction. Classes are leaves (leaves.py). `banks` 2 L P E are the prototypes, those of labelled voxels first;
    they move after the optimiser's step, so a step that is skipped leaves them alone.
    """

    terms = Ltuda.terms
    settings: Ltuda

    def __init__(
        self,
        *,
        student: nn.Module,
        names: tuple[str, ...],
        settings: Ltuda,
        teacher: Teacher,
        structures: Structures,
        seed: int,
    ) -> None:
        super().__init__(
            student=student, names=names, settings=settings, teacher=teacher, structures=structures, seed=seed
        )
        self.leaves = leaves_of(self.rivals)
        device, channels = next(student.parameters()).device, student.feature_channels
        head = PrototypeHead(channels, len(self.leaves)).to(device)  # type: ignore[arg-type]
        self.networks = {**self.networks, "head": head}
        first = torch.randn(len(_BANKS), len(self.leaves), settings.prototypes_per_class, EMBEDDING_SIZE)
        self.banks = F.normalize(first, dim=3).to(device)
        self._next_banks = self.banks

    def losses(self, networks: Mapping[str, nn.Module], batch: Batch, progress: float) -> Losses:
        """Losses of `batch`; the history counts how often each ROI was labelled."""
        if progress < self.settings.prototypes_after:
            losses = super().losses(networks, batch, progress)
            nothing = torch.zeros_like(losses.total)
            return replace(losses, terms=losses.terms | dict.fromkeys(_BANKS, nothing))
        boxes, weight, targets = self._boxes(batch), self._teacher_weight(progress), self._targets(batch)
        logits, features = networks["student"](views_of(batch, boxes), with_features=True)
        losses = self._losses_of(logits, batch, boxes, targets, weight)
        # Autocast would compute cosines, shares and mean directions in half precision.
        with torch.autocast(features.device.type, enabled=False):
            terms = self._prototype_terms(networks["head"], features, batch, boxes, targets)
        total = losses.total + self.settings.prototype_weight * weight * sum(terms.values())
        return replace(losses, total=total, terms=losses.terms | terms)

    def after_update(self) -> None:
        super().after_update()
        self.banks = self._next_banks

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"banks": self.banks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.banks = self._next_banks = state["banks"].to(self.banks.device)

    def _prototype_terms(
        self, head: nn.Module, features: Tensor, batch: Batch, boxes: Sequence[Tensor], targets: Tensor
    ) -> dict[str, Tensor]:
        """Each bank's loss, the sum over mixed copies of means over their voxels: B each; says how the banks move.

        `features` (1 + views)·B C D H W.
        """
        drawn = [
            DrawnVoxels.of(batch, targets, self.leaves, box, self._places(batch, view))
            for view, box in enumerate(boxes)
        ]
        rows = torch.arange(len(features), device=features.device)[:, None].split(len(targets))[1:]
        seen = torch.stack([at_voxels(features, row, each.places) for row, each in zip(rows, drawn, strict=True)])
        of_all = torch.stack([each.classes for each in drawn])
        counted = of_all >= 0
        embeddings, cosines, scores = head(seen.flatten(0, 2).to(self.banks.dtype), self.banks)
        classes, own = of_all[counted], counted.flatten()
        in_label = torch.stack([each.in_label for each in drawn])[counted]
        learns = (in_label | (classes == _BACKGROUND), ~in_label)
        terms, banks = {}, []
        for place, name in enumerate(_BANKS):
            of_bank, of_classes = cosines[place][own], scores[place][own]
            prototypes = assigned(of_bank, classes)
            costs = prototype_loss(of_bank, of_classes, classes, prototypes)
            of_voxels = torch.zeros_like(counted, dtype=costs.dtype).masked_scatter(counted, costs)
            terms[name] = (of_voxels.sum(2) / counted.sum(2).clamp(min=1)).sum(0)
            follows = learns[place] & (of_classes.argmax(1) == classes)
            decay = self.settings.prototype_decay
            banks.append(moved(self.banks[place], embeddings[own][follows], prototypes[follows], decay))
        self._next_banks = torch.stack(banks)
        return terms

    def _places(self, batch: Batch, view: int) -> tuple[Tensor, Tensor, Tensor]:
        depth, height, width = batch.strong.shape[2:]
        count, device = self.settings.prototype_voxels, batch.strong.device
        return drawn_places((depth, height, width), count, self.seed, batch.samples, view, device)
