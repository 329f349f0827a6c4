"""The weak view (teacher, ROI-aware network) and the strong view (student)."""

from __future__ import annotations

from typing import ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from .section import Fraction, NonNegative, Section

Range = tuple[NonNegative, NonNegative]
View = TypeVar("View", bound=Section)


def _check_ranges(view: View) -> View:
    for name in type(view).model_fields:
        value = getattr(view, name)
        if isinstance(value, tuple) and len(value) == 2 and value[0] > value[1]:
            raise ValueError(f"`{name}` must be [low, high] with low ≤ high")
        if name in ("zoom_range", "low_resolution_range") and value[0] <= 0:
            raise ValueError(f"`{name}` must be above 0")
    return view


class WeakView(Section):
    """Spatial changes, applied to image and labels alike, and light noise: the paper's x_T."""

    renamed: ClassVar = {"noise_deviation": "noise_std"}

    flip_probability: tuple[Fraction, Fraction, Fraction] = Field(
        default=(0.5, 0.5, 0.5),
        description="Probability of a flip along (x, y, z). A flip along x exchanges left and right: "
        "see `mirror` of the ROIs.",
    )
    zoom_probability: Fraction = Field(default=0.2, description="Probability of zooming a patch.")
    zoom_range: Range = Field(
        default=(0.714, 1.429),
        description="Lowest and highest magnification; the side of the magnified region is drawn uniformly (the "
        "default is DoDNet's: a region of 0.7 to 1.4 times the patch).",
    )
    noise_probability: Fraction = Field(default=0.1, description="Probability of adding Gaussian noise.")
    noise_std: Range = Field(
        default=(0.0, 0.05), description="Noise's standard deviation as a share of half the intensity window."
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        return _check_ranges(self)


class StrongView(Section):
    """Further intensity changes on x_T that give the paper's x_S: DoDNet's list, ranges and effective probabilities."""

    renamed: ClassVar = {"noise_deviation": "noise_std", "shift_deviation": "shift_std"}

    noise_probability: Fraction = Field(default=0.1, description="Probability of Gaussian noise.")
    noise_std: Range = Field(
        default=(0.0, 0.1), description="Noise's standard deviation as a share of half the intensity window."
    )
    blur_probability: Fraction = Field(default=0.1, description="Probability of Gaussian blur.")
    blur_sigma_voxels: Range = Field(default=(0.5, 1.0), description="Blur's standard deviation in voxels.")
    brightness_probability: Fraction = Field(default=0.15, description="Probability of scaling the intensities.")
    brightness_range: Range = Field(default=(0.75, 1.25), description="Factor on the intensities.")
    shift_probability: Fraction = Field(default=0.075, description="Probability of an additive intensity shift.")
    shift_std: NonNegative = Field(
        default=0.1, description="Standard deviation of the shift as a share of half the intensity window."
    )
    contrast_probability: Fraction = Field(default=0.15, description="Probability of changing the contrast.")
    contrast_range: Range = Field(default=(0.75, 1.25), description="Factor on the distance to the patch's mean.")
    low_resolution_probability: Fraction = Field(default=0.125, description="Probability of simulated low resolution.")
    low_resolution_range: Range = Field(default=(0.5, 1.0), description="Share of the resolution that is kept.")
    gamma_probability: Fraction = Field(default=0.15, description="Probability of a gamma curve.")
    gamma_range: Range = Field(
        default=(0.7, 1.5),
        description="Exponent of the gamma curve; half of the draws are below 1, half above. The patch keeps its mean "
        "and standard deviation.",
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        return _check_ranges(self)


class Augmentation(Section):
    """Both views of a training patch."""

    weak: WeakView = WeakView()
    strong: StrongView = StrongView()
