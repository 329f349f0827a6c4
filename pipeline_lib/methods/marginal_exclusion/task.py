"""Marginal and exclusion losses: what labels allow should be likely, and what they exclude should not overlap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from ...config.method_settings import DiceForm
from ..dice_loss import dice_loss
from ..exclusive_organs import Rivals, Structures
from ..leaf_task import LeafTask
from ..leaves import marginal_cross_entropy, roi_probabilities
from ..negatives import labelled_as_rival
from ..roi_maps import mean_over_rois, selected_maps, told_voxels
from ..segmentation_task import Ingredients
from .settings import MarginalExclusion


class MarginalExclusionTask(LeafTask):
    """Marginal cross-entropy, marginal Dice and exclusion Dice, weighted by `weights`."""

    terms = MarginalExclusion.terms

    def __init__(
        self,
        student: nn.Module,
        names: tuple[str, ...],
        structures: Structures,
        weights: Mapping[str, float],
        dice: DiceForm,
    ) -> None:
        super().__init__(student, names, structures, weights)
        self.dice = dice

    @classmethod
    def build(cls, settings: MarginalExclusion, ingredients: Ingredients) -> Self:
        weights = {"cross_entropy": 1.0, "dice": 1.0, "exclusion": settings.exclusion_weight}
        return cls(ingredients.new_network(), ingredients.rois, ingredients.structures, weights, settings.dice)

    def leaf_terms(
        self, z: Tensor, allowed: Tensor, labels: Tensor, labelled: Tensor, known: Tensor | None
    ) -> dict[str, Tensor]:
        p = roi_probabilities(z, self.leaves)
        return {
            "cross_entropy": marginal_cross_entropy(z, allowed, known),
            "dice": marginal_dice(p, labels, labelled, self.dice, known),
            "exclusion": exclusion_dice(p, labels, labelled, self.rivals, self.dice, known),
        }


def marginal_dice(p: Tensor, labels: Tensor, labelled: Tensor, form: DiceForm, known: Tensor | None = None) -> Tensor:
    """1 − soft Dice of each labelled ROI, mean over those of a sample: B K D H W, bool B K D H W, bool B K → B.

    With `known` (bool B K D H W) the sums are over these voxels.
    """
    if known is not None:
        p, labels = p.where(known, 0), labels & known
    own, truth = selected_maps(p, labelled), selected_maps(labels, labelled)
    return mean_over_rois(dice_loss(own, truth.to(own.dtype), labelled, form), labelled)


def exclusion_dice(
    p: Tensor, labels: Tensor, labelled: Tensor, rivals: Rivals, form: DiceForm, known: Tensor | None = None
) -> Tensor:
    """Soft Dice of each ROI with the voxels that are known not to be in it, which is to be small: B K D H W → B.

    Of a labelled ROI, those are the voxels outside its label; of an unlabelled one, those that are labelled as one of
    its rivals. It is a mean over the ROIs of which there can be such voxels. As in the publication, the background has
    no term, and nor has a sample that labels every ROI, since there its cross-entropy says the same. With `known` (bool
    B K D H W) a labelled ROI's other voxels count if they are labelled as a rival, else they are left out; those at
    which no label is known are left out for all ROIs.
    """
    negatives, informed = labelled_as_rival(labels, labelled, rivals, known)
    told = told_voxels(labelled, known)
    outside = (~labels & told) | (negatives & ~told)
    if known is not None:
        p = p.where(known | negatives | (~labelled[:, :, None, None, None] & known.any(1, keepdim=True)), 0)
    selected = (labelled | informed) & ~labelled.all(1, keepdim=True)
    own, excluded = selected_maps(p, selected), selected_maps(outside, selected)
    return mean_over_rois(1 - dice_loss(own, excluded.to(own.dtype), selected, form), selected)
