"""Scores of the ROIs that a patch contains, from the frozen ROI-aware network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .section import Count, Section


class Existence(Section):
    """How existence scores are made for the pooled patches."""

    mode: Literal["cached", "online"] = Field(
        default="cached",
        description="cached scores each pooled patch once, before training; online scores the augmented x_T in "
        "every step, as the paper does.",
    )
    calibration: Literal["none", "temperature", "platt"] = Field(
        default="none", description="Mapping of the scores, fitted on the ROI-aware network's held-out cases."
    )
    average_flips: bool = Field(default=False, description="Average each cached score over the eight mirrored patches.")
    batch: Count = Field(default=8, description="Patches scored at once.")
