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
from ..prototypes import assigned, class_loss, moved, prototype_loss
from .settings import Ltuda
from .voxels import DrawnVoxels, at_voxels, drawn_places

_BANKS = ("labelled_prototypes", "unlabelled_prototypes")
_BACKGROUND = 0
"""The empty leaf."""


class LtudaTask(LtudaCdaTask):
    """As `LtudaCdaTask`; in the second part of the training, prototypes replace the labels of mixed copies.

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
        boxes, weight, targets = self._boxes(batch), self.teacher_weight(progress), self._targets(batch)
        logits, features = networks["student"](views_of(batch, boxes), with_features=True)
        losses = self._losses_of(logits, batch, boxes, targets, weight, labels_of_copies=False)
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

        All voxels are classified, by either bank. Members of the labelled bank are those in a labelled ROI and those of
        the background; members of the other bank are all outside labelled ROIs. Members alone are assigned to
        prototypes, which attract them and follow them. `features` (1 + views)·B C D H W.
        """
        voxels = DrawnVoxels.joined([self._drawn(batch, targets, view, box) for view, box in enumerate(boxes)])
        classes, in_label, counted = voxels.classes, voxels.in_label, voxels.classes >= 0
        # At once: every indexing of the features gives a gradient of their size.
        rows = torch.arange(len(targets), len(features), device=features.device)[:, None]
        seen = at_voxels(features, rows, voxels.places).to(self.banks.dtype)
        embeddings, cosines, scores = head(seen.flatten(0, 1), self.banks)
        embeddings = embeddings.unflatten(0, classes.shape)
        members = (counted & (in_label | (classes == _BACKGROUND)), counted & ~in_label)
        terms, banks = {}, []
        for place, (name, member) in enumerate(zip(_BANKS, members, strict=True)):
            near, of_classes = (values[place].unflatten(0, classes.shape) for values in (cosines, scores))
            own, prototypes = classes[member], assigned(near[member], classes[member])
            costs = _means(class_loss(of_classes[counted], classes[counted]), counted)
            costs = costs + _means(prototype_loss(near[member], prototypes), member)
            terms[name] = costs.unflatten(0, (len(boxes), -1)).sum(0)
            right = of_classes[member].argmax(1) == own
            decay = self.settings.prototype_decay
            banks.append(moved(self.banks[place], embeddings[member][right], prototypes[right], decay))
        self._next_banks = torch.stack(banks)
        return terms

    def _drawn(self, batch: Batch, targets: Tensor, view: int, box: Tensor) -> DrawnVoxels:
        depth, height, width = batch.strong.shape[2:]
        count, device = self.settings.prototype_voxels, batch.strong.device
        places = drawn_places((depth, height, width), count, self.seed, batch.samples, view, device)
        return DrawnVoxels.of(batch, targets, self.leaves, box, places)


def _means(costs: Tensor, where: Tensor) -> Tensor:
    """The mean of each row's `costs`, one for each voxel that is True in `where` (bool R V), 0 if none is: R."""
    found = torch.zeros_like(where, dtype=costs.dtype).masked_scatter(where, costs)
    return found.sum(1) / where.sum(1).clamp(min=1)
