"""Scores of the ROIs that a patch contains, from the frozen ROI-aware network, and what is decided from them."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from .section import Count, Fraction, Section


class Existence(Section):
    """How existence scores are computed for the pooled patches."""

    renamed: ClassVar = {"batch": "batch_size"}
    removed: ClassVar = {
        "calibration": "calibrated scores improved no result (docs/evidence.md)",
        "average_flips": "averaging over mirrored patches lost nearly all negative decisions (docs/existence.md)",
    }

    mode: Literal["cached", "online", "start_model"] = Field(
        default="cached",
        description="cached scores each pooled patch once, before training; online scores the augmented x_T in "
        "every step, as the paper does; start_model needs no fully labelled data set: the model of a method's "
        "`start_from` scores x_T in every step by each ROI's largest probability, and a ROI that it does not know is "
        "ambiguous.",
    )
    batch_size: Count = Field(default=8, description="Patches in one forward pass.")


class DecisionRule(Section):
    """Existence scores above or below which an unlabelled ROI is latent; between them it is ambiguous."""

    positive_above: Fraction = Field(
        default=0.8, description="φ_h: an unlabelled ROI with a higher existence score is positive latent."
    )
    negative_below: Fraction = Field(
        default=0.1, description="φ_l: an unlabelled ROI with a lower existence score is negative latent."
    )

    @model_validator(mode="after")
    def _thresholds_are_ordered(self) -> Self:
        if self.negative_below >= self.positive_above:
            raise ValueError(
                f"`negative_below` (φ_l = {self.negative_below:g}) must be below "
                f"`positive_above` (φ_h = {self.positive_above:g})"
            )
        return self
