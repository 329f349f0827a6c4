"""Settings of the marginal and exclusion losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ...config.method_settings import LeafMethodSettings
from ...config.section import NonNegative


class MarginalExclusion(LeafMethodSettings):
    """Cross-entropy and soft Dice of one softmax, in which unlabelled organs belong to the background, and exclusion.

    Shi et al.: "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical Image
    Analysis, 2021. Published: the three terms, their weights 1, 1 and 2, and `dice: batch`. Ours: the default form of
    `dice`, as in Eq. 1 of the other rows; merged probabilities (the published code adds logits); no first phase on a
    fully labelled set.
    """

    terms: ClassVar[Mapping[str, str]] = {
        "cross_entropy": "marginal cross-entropy",
        "dice": "marginal Dice",
        "exclusion": "exclusion Dice",
    }

    kind: Literal["marginal_exclusion"]
    dice: Literal["published", "batch"] = Field(
        default="published", description="Form of both Dice terms, as in Eq. 1; batch is that of the publication."
    )
    exclusion_weight: NonNegative = Field(default=2.0, description="Weight of the exclusion term (published: 2).")

    @property
    def sums_over_batch(self) -> bool:
        return self.dice == "batch"
