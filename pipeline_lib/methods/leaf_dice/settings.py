"""Settings of the leaf Dice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ...config.method_settings import LeafMethodSettings


class LeafDice(LeafMethodSettings):
    """Marginal cross-entropy and soft Dice of each leaf with the voxels that can be in no other.

    Fidon et al.: "Label-set loss functions for partial supervision", MICCAI 2021. Published: both terms, their weights
    and the squares in the Dice's denominator. Ours: ROIs of one organ may overlap. Where a sample does not label all
    ROIs of an organ, as in MOTS those of the liver, no leaf of it is certain and the Dice says nothing about it.
    """

    terms: ClassVar[Mapping[str, str]] = {"cross_entropy": "marginal cross-entropy", "dice": "leaf Dice"}

    kind: Literal["leaf_dice"]
