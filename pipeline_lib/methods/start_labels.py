"""Growing a model: it labels the ROIs that it knows itself, where the new cases do not.

The latent terms alone do not keep them: Eq. 2 weighs a small organ by its voxels, while Eq. 1 pulls the network to the
new ROI (docs/evidence.md, "Growing"). Here both kinds of ROIs have the same loss. Li and Hoiem, "Learning without
forgetting", ECCV 2016, keep what a network answered in the same way, with softened answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..data.batches import Batch, ViewMaker
from ..data.reading import Region
from ..label_bits import plane_and_bit
from .exclusive_organs import Rivals
from .negatives import labelled_as_rival


@dataclass(frozen=True)
class StartLabels:
    """The masks of the frozen `model` as labels of those `rois` that it knows.

    `known` are its own ROIs in the order of its outputs, `rivals` those that exclude each of `rois`;
    `to_probabilities` turns its logits into probabilities. The masks are those of one patch as the student's teacher
    sees it, not of a sliding window.
    """

    model: nn.Module
    known: tuple[str, ...]
    rois: tuple[str, ...]
    rivals: Rivals
    to_probabilities: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def added_to(self, batch: Batch) -> Batch:
        """`batch` with labels of every ROI that the model knows; those that a case brings are left alone.

        So are the voxels that a case leaves unknown of a ROI that it labels. A voxel that it labels as a rival of a ROI
        is not labelled as that ROI, whatever the model says.
        """
        masks = self.to_probabilities(self.model(batch.weak)) >= 0.5
        ruled_out, _ = labelled_as_rival(batch.labels, batch.labelled, self.rivals, batch.known)
        planes, labelled = batch.planes.clone(), batch.labelled.clone()
        unknown = None if batch.unknown is None else batch.unknown.clone()
        for channel, name in enumerate(self.known):
            if name not in self.rois:
                continue
            roi = self.rois.index(name)
            plane, bit = plane_and_bit(roi)
            new = ~batch.labelled[:, roi]
            others = 0xFF ^ (1 << bit)
            mask = (masks[new, channel] & ~ruled_out[new, roi]).to(torch.uint8)
            planes[new, plane] = (planes[new, plane] & others) | (mask << bit)
            if unknown is not None:
                unknown[new, plane] &= others
            labelled[:, roi] = True
        return replace(batch, planes=planes, labelled=labelled, unknown=unknown)


@dataclass(frozen=True)
class LabellingViewMaker(ViewMaker):
    """A view maker whose samples have the labels of a start model besides their own."""

    start: StartLabels

    def batch(self, regions: Sequence[Region]) -> Batch:
        return self.start.added_to(super().batch(regions))
