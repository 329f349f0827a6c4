"""Leaf Dice: the soft Dice of the voxels whose labels leave a single possibility."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from ..leaf_task import LeafTask
from ..leaves import marginal_cross_entropy
from ..segmentation_task import Ingredients
from .settings import LeafDice

_EPSILON = 1e-5
"""Added to the denominator, as published."""


class LeafDiceTask(LeafTask):
    """The marginal cross-entropy and the leaf Dice."""

    terms = LeafDice.terms

    @classmethod
    def build(cls, settings: LeafDice, ingredients: Ingredients) -> Self:
        weights = {"cross_entropy": 1.0, "dice": 1.0}
        return cls(ingredients.new_network(), ingredients.rois, ingredients.structures, weights)

    def leaf_terms(
        self, z: Tensor, allowed: Tensor, labels: Tensor, labelled: Tensor, known: Tensor | None
    ) -> dict[str, Tensor]:
        complete = None if known is None else (known | ~labelled[:, :, None, None, None]).all(1)
        return {
            "cross_entropy": marginal_cross_entropy(z, allowed, known),
            "dice": leaf_dice_loss(z, allowed, complete),
        }


def leaf_dice_loss(z: Tensor, allowed: Tensor, complete: Tensor | None = None) -> Tensor:
    """1 − the mean over all leaves of 2·Σpy / (Σp² + Σy + 1e-5): B L D H W, bool B L D H W → B.

    y is 1 at the voxels that the leaf alone is allowed at. A leaf without such voxels costs a constant 1 and has no
    gradient; that of a leaf with some is pushed down at all others, also where it is allowed. So voxels at which a
    labelled ROI is unknown are left out: the sums are over those that are `complete`, bool B D H W (None: all).
    """
    p = z.softmax(1).flatten(2)
    certain = (allowed & (allowed.sum(1, keepdim=True) == 1)).flatten(2).to(p.dtype)
    if complete is not None:
        p, certain = (each.where(complete.flatten(1)[:, None], 0) for each in (p, certain))
    dice = 2 * (p * certain).sum(2) / (p.square().sum(2) + certain.sum(2) + _EPSILON)
    return 1 - dice.mean(1)
