"""The one place that decides which ROIs of a sample are labelled, latent or ambiguous ([LC], section 2).

[LC]: Zhao et al., "Exploiting Latent Classes for Medical Image Segmentation from Partially Labeled Datasets", MICCAI
2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..config.existence import DecisionRule


@dataclass(frozen=True, eq=False)
class Decisions:
    """Four masks, bool B K each; every ROI of every sample is in exactly one of them."""

    labelled: Tensor
    positive: Tensor
    negative: Tensor
    ambiguous: Tensor

    @property
    def latent(self) -> Tensor:
        """Unlabelled ROIs whose existence or absence is certain enough for Eq. 2, bool B K."""
        return self.positive | self.negative


def decide(labelled: Tensor, scores: Tensor, rule: DecisionRule | None, present: Tensor | None = None) -> Decisions:
    """Decide from `labelled` bool B K and the existence `scores` float B K.

    An unlabelled ROI is positive latent if its score is above φ_h, negative latent if it is below φ_l (both strictly)
    and ambiguous otherwise or if its score is NaN. The scores of labelled ROIs are ignored. The comparison takes place
    in the precision of the scores, so a float32 score of 0.8 is not above a threshold of 0.8. A ROI in `present` (bool
    B K) is there whatever its score: the part of the patch in which its label is known shows it. Without a rule the
    scores are ignored, and every unlabelled ROI is positive latent.
    """
    unlabelled = ~labelled
    if rule is None:
        none = torch.zeros_like(labelled)
        return Decisions(labelled, unlabelled, none, none)
    positive = unlabelled & (scores > scores.new_tensor(rule.positive_above))
    negative = unlabelled & (scores < scores.new_tensor(rule.negative_below))
    if present is not None:
        positive, negative = positive | (unlabelled & present), negative & ~present
    return Decisions(labelled, positive, negative, unlabelled & ~positive & ~negative)
