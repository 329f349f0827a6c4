"""The methods that are compared: what each learns from, and with which network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .section import Count, Fraction, Name, Section

NonNegative = Annotated[float, Field(ge=0)]

WANTED_PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)
"""Precisions for which the ROI-aware network's evaluation chooses thresholds."""


class Method(Section):
    """One row of the result table."""

    network: Literal["swin_unetr", "dodnet"] = Field(
        default="swin_unetr", description="SwinUNETR with the text-conditioned head, or DoDNet's own network."
    )
    encoder: Name = Field(description="Text encoder, one of `text.encoders` (dodnet needs one of kind one_hot).")
    supervised: Literal["cross_entropy_and_dice", "cross_entropy", "dice"] = Field(
        default="cross_entropy_and_dice",
        description="Eq. 1 on labelled ROIs, whose form the paper leaves open: binary cross-entropy plus soft Dice "
        "(DoDNet, Universal Model), or one of them.",
    )
    dice: Literal["published", "smoothed", "smoothed_100", "batch", "present"] = Field(
        default="published",
        description="Form of the Dice term: smoothing 1 in the denominator alone (published: DoDNet, Universal Model), "
        "smoothing of 1 or 100 voxels in numerator and denominator, sums over the batch (nnU-Net), or published, "
        "averaged over the ROIs that the patch holds.",
    )
    absent_weight: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Weight of the cross-entropy of a labelled ROI that the patch does not hold."
    )
    latent: Literal["none", "cross_entropy"] = Field(
        default="none",
        description="Eq. 2 on latent ROIs: cross-entropy against the teacher's sharpened output.",
    )
    consistency: Literal["none", "ambiguous", "all"] = Field(
        default="none",
        description="Eq. 3, mean squared error to the teacher's output, on ambiguous ROIs (the paper), or on all "
        "ROIs regardless of existence (mean teacher).",
    )
    positive_above: Fraction | None = Field(
        default=0.8,
        description="φ_h: an unlabelled ROI with a higher existence score is positive latent (null with "
        "`wanted_precision`).",
    )
    negative_below: Fraction | None = Field(
        default=0.1,
        description="φ_l: an unlabelled ROI with a lower existence score is negative latent (null with "
        "`wanted_precision`).",
    )
    wanted_precision: float | None = Field(
        default=None,
        description="Choose φ_h and φ_l of each ROI such that this share of both decisions is right on the ROI-aware "
        f"network's held-out cases ({', '.join(f'{each:g}' for each in WANTED_PRECISIONS)}; null: not).",
    )
    negative_target: Literal["teacher", "zero"] = Field(
        default="teacher",
        description="Target of negative latent ROIs in Eq. 2: the teacher's sharpened output (the paper), or zero.",
    )
    sharpening_temperature: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="τ of the sharpening in Eq. 2; 1 leaves the teacher's output as it is."
    )
    exclusive_organs: bool = Field(
        default=False,
        description="True: no voxel is taught as two organs; where it is labelled as another organ, or the teacher is "
        "surer that it is another, a ROI's target is lowered to what that leaves (not in the paper).",
    )
    latent_weight: NonNegative = Field(default=1.0, description="w_CE of Eq. 4.")
    consistency_weight: NonNegative = Field(default=1.0, description="w_MSE of Eq. 4.")
    warmup_fraction: Fraction = Field(
        default=0.0, description="Share of the training on labels alone before Eq. 2 and 3 start."
    )
    rampup_fraction: Fraction = Field(
        default=0.0,
        description="Share of the training, after the warm-up, over which their weights rise as exp(−5(1−t)²).",
    )
    labelled_cases: dict[Name, Count] = Field(
        default={},
        description="Data set → number of its training cases that are learned from, drawn by the seed and repeated in "
        "place of the others, so that nothing else changes (not named: all of them).",
    )

    @model_validator(mode="before")
    @classmethod
    def _wanted_precision_takes_the_thresholds_place(cls, content: Any) -> Any:
        if isinstance(content, Mapping) and content.get("wanted_precision") is not None:
            return {"positive_above": None, "negative_below": None, **content}
        return content

    @model_validator(mode="after")
    def _has_one_source_of_thresholds(self) -> Self:
        given = (self.positive_above, self.negative_below)
        if self.wanted_precision is None:
            if None in given:
                raise ValueError("`positive_above` and `negative_below` may be null only with `wanted_precision`")
            if self.negative_below >= self.positive_above:
                raise ValueError(
                    f"`negative_below` (φ_l = {self.negative_below:g}) must be below "
                    f"`positive_above` (φ_h = {self.positive_above:g})"
                )
            return self
        if self.wanted_precision not in WANTED_PRECISIONS:
            choices = ", ".join(f"{each:g}" for each in WANTED_PRECISIONS)
            raise ValueError(f"`wanted_precision` {self.wanted_precision:g} must be one of: {choices}")
        if given != (None, None):
            raise ValueError(
                "`wanted_precision` chooses φ_h and φ_l, so leave out `positive_above` and `negative_below`"
            )
        if not self.needs_existence:
            raise ValueError("`wanted_precision` has no effect without Eq. 2 or 3 on unlabelled ROIs: leave it out")
        return self

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.consistency == "all" and self.latent != "none":
            raise ValueError("`consistency: all` already covers latent ROIs, so `latent` must be none")
        if self.exclusive_organs and not self.needs_teacher:
            raise ValueError("`exclusive_organs` has no effect without Eq. 2 or 3: leave it out")
        if self.warmup_fraction + self.rampup_fraction > 1:
            raise ValueError("`warmup_fraction` and `rampup_fraction` together must not exceed 1")
        return self

    @property
    def needs_teacher(self) -> bool:
        return self.latent != "none" or self.consistency != "none"

    @property
    def needs_existence(self) -> bool:
        return self.latent != "none" or self.consistency == "ambiguous"


class SwinUnetr(Section):
    """The SwinUNETR trunk (MONAI) and its head."""

    feature_size: Annotated[int, Field(ge=12, multiple_of=12)] = Field(
        default=48, description="Channels of the first stage (48 is the published network)."
    )
    depths: tuple[int, int, int, int] = Field(default=(2, 2, 2, 2), description="Transformer blocks per stage.")
    heads: tuple[int, int, int, int] = Field(default=(3, 6, 12, 24), description="Attention heads per stage.")
    window: Annotated[int, Field(ge=2)] = Field(default=7, description="Side of the attention window in tokens.")
    version_2: bool = Field(default=False, description="SwinUNETR v2's residual convolution at each stage.")


class DodNet(Section):
    """DoDNet's residual 3D U-Net."""

    width: Annotated[int, Field(ge=8, multiple_of=8)] = Field(
        default=32, description="Channels of the first stage (32 is the published network)."
    )


class Networks(Section):
    """Sizes of the segmentation networks."""

    swin_unetr: SwinUnetr = SwinUnetr()
    dodnet: DodNet = DodNet()


class Teacher(Section):
    """The mean teacher: an exponential moving average of the student."""

    decay: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.999, description="α of the moving average.")
    fast_start: bool = Field(
        default=True, description="Use min(1 − 1/(t+1), decay), so that a young teacher follows its student."
    )
