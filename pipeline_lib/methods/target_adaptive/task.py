"""The target adaptive loss: −log of the probability that the softmax gives to all that a voxel's labels allow."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from ..leaf_task import LeafTask
from ..leaves import marginal_cross_entropy
from ..segmentation_task import Ingredients
from .settings import TargetAdaptive


class TargetAdaptiveTask(LeafTask):
    """The marginal cross-entropy alone; the publication has neither a Dice term nor class weights."""

    terms = TargetAdaptive.terms

    @classmethod
    def build(cls, settings: TargetAdaptive, ingredients: Ingredients) -> Self:
        weights = {"cross_entropy": 1.0}
        return cls(ingredients.new_network(), ingredients.rois, ingredients.structures, weights)

    def leaf_terms(
        self, z: Tensor, allowed: Tensor, labels: Tensor, labelled: Tensor, known: Tensor | None
    ) -> dict[str, Tensor]:
        return {"cross_entropy": marginal_cross_entropy(z, allowed, known)}
