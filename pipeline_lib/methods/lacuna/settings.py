"""Settings of our own method: pseudo labels where the teacher is certain and existence scores do not deny it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.existence import DecisionRule
from ...config.method_settings import TeacherScheduleSettings
from ...config.section import Count, Fraction, NonNegative


class Lacuna(TeacherScheduleSettings):
    """Eq. 1 to 4, but a latent ROI learns only where its teacher is certain and its existence score does not deny it,
    with a weight that counts beside Eq. 1, and not before the warm-up is over. No voxel is taught as two organs. Ours.
    """

    removed: ClassVar = {
        "exclusion_weight": "hard negatives from existence scores lost against labels alone (docs/evidence.md)"
    }
    revision: ClassVar[int] = 2
    needs_existence: ClassVar[bool] = True
    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "latent": "certain pseudo labels",
        "consistency": "consistency (Eq. 3)",
    }

    kind: Literal["lacuna"]
    decision: DecisionRule = DecisionRule()
    certainty: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        default=0.9,
        description="Teacher's probability from which a voxel counts as certainly inside a ROI; as certainly outside "
        "up to one minus it.",
    )
    seen_voxels: Count = Field(
        default=10,
        description="Voxels of a positive ROI that the teacher must be certain are inside; with fewer it does not see "
        "the ROI, and nothing of it is taught.",
    )
    latent_weight: NonNegative = Field(
        default=50.0,
        description="Weight of the pseudo labels. An organ is a few hundred of a patch's voxels, over which their "
        "cross-entropy is a mean: with 1 it is a hundredth of Eq. 1.",
    )
    consistency_weight: NonNegative = Field(default=1.0, description="w_MSE of Eq. 4, for ambiguous ROIs.")
    warmup_fraction: Fraction = Field(
        default=0.3, description="Share of the training on labels alone, before the teacher's terms count."
    )
    rampup_fraction: Fraction = Field(
        default=0.2,
        description="Share of the training, after the warm-up, over which their weights rise as exp(−5(1−t)²).",
    )

    @property
    def needs_organs(self) -> bool:
        return True
