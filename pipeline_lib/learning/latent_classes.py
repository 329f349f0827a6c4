"""The one place that decides which ROIs of a sample are labelled, latent or ambiguous ([LC], section 2)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..config.methods import Method


@dataclass(frozen=True)
class Decisions:
    """Four masks, bool B K each; every ROI of every sample is in exactly one of them."""

    labelled: Tensor
    positive: Tensor
    negative: Tensor
    ambiguous: Tensor

    @property
    def latent(self) -> Tensor:
        """Unlabelled ROIs whose existence or absence is sure enough for Eq. 2, bool B K."""
        return self.positive | self.negative


def decide(labelled: Tensor, scores: Tensor, method: Method) -> Decisions:
    """Decide from `labelled` bool B K and the existence `scores` float B K.

    An unlabelled ROI is positive latent if its score is above φ_h, negative latent if it is below φ_l (both strictly)
    and else ambiguous; so is one whose score is NaN. The scores of labelled ROIs are ignored.
    """
    unlabelled = ~labelled
    positive = unlabelled & (scores > method.positive_above)
    negative = unlabelled & (scores < method.negative_below)
    return Decisions(labelled, positive, negative, unlabelled & ~positive & ~negative)
