"""The one place that decides which ROIs of a sample are labelled, latent or ambiguous ([LC], section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Thresholds:
    """φ_h and φ_l of each of K ROIs, float64 K each."""

    positive_above: Tensor
    negative_below: Tensor

    @classmethod
    def of(cls, positive_above: Sequence[float], negative_below: Sequence[float]) -> Thresholds:
        return cls(torch.tensor(positive_above, dtype=torch.float64), torch.tensor(negative_below, dtype=torch.float64))

    def to(self, device: torch.device) -> Thresholds:
        return Thresholds(self.positive_above.to(device), self.negative_below.to(device))


@dataclass(frozen=True, eq=False)
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


def decide(labelled: Tensor, scores: Tensor, thresholds: Thresholds) -> Decisions:
    """Decide from `labelled` bool B K and the existence `scores` float B K.

    An unlabelled ROI is positive latent if its score is above φ_h, negative latent if it is below φ_l (both strictly)
    and else ambiguous; so is one whose score is NaN. The scores of labelled ROIs are ignored.
    """
    unlabelled = ~labelled
    # In the scores' own precision, in which a score of 0.8 is not above a threshold of 0.8.
    positive = unlabelled & (scores > thresholds.positive_above.to(scores.dtype))
    negative = unlabelled & (scores < thresholds.negative_below.to(scores.dtype))
    return Decisions(labelled, positive, negative, unlabelled & ~positive & ~negative)
