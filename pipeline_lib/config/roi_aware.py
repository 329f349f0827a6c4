"""The ROI-aware network: a 3D ResNet-18 that says which structures a patch contains."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .optimisation import Execution, Optimisation
from .section import Count, Name, Section


class RoiAware(Section):
    """Architecture, training and evaluation of the ROI-aware network."""

    removed: ClassVar = {"imbalance": "no experiment used weights for rare structures"}

    structures: Literal["totalsegmentator_v1", "totalsegmentator_v2"] | tuple[Name, ...] = Field(
        default="totalsegmentator_v1",
        description="Structures that it scores, in order: v1's 104, v2's 117, or a list.",
    )
    width: Count = Field(default=64, description="Channels of the first stage of ResNet-18 (64 is the published one).")
    first_stride: Literal[1, 2] = Field(
        default=2,
        description="Stride of the first convolution (MONAI's own default, 1, is eight times the work).",
    )
    held_out_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.1, description="Share of the cases kept for evaluation."
    )
    least_voxels: Count = Field(
        default=1, description="Voxels of a structure that a patch must hold for it to count as present."
    )
    optimisation: Optimisation = Field(default=Optimisation(), description="Training of the ROI-aware network.")
    execution: Execution = Field(default=Execution(), description="How its training runs.")

    def held_out_cases(self, cases: int) -> int:
        """How many of `cases` cases are kept for evaluation."""
        return math.ceil(self.held_out_fraction * cases)
