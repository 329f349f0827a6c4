"""Settings of our own method: the paper's terms, and a term that counts for what the teacher is certain of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...config.existence import DecisionRule
from ...config.method_settings import TeacherScheduleSettings
from ...config.section import Count, Fraction, NonNegative


class Lacuna(TeacherScheduleSettings):
    """Eq. 1 to 3, and certain pseudo labels besides: of a latent ROI, the voxels that its teacher is certain of and its
    existence score does not deny, with a weight that counts beside Eq. 1, and not before the warm-up is over. No voxel
    is taught as two organs. Ours.
    """

    renamed: ClassVar = {**TeacherScheduleSettings.renamed, "latent_weight": "certain_weight"}
    removed: ClassVar = {
        "exclusion_weight": "hard negatives from existence scores lost against labels alone (docs/evidence.md)",
        "consistency_weight": "Eq. 3 always weighs 1, as in the paper",
    }
    revision: ClassVar[int] = 3
    may_ignore_existence: ClassVar[bool] = True
    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "latent": "latent loss (Eq. 2)",
        "consistency": "consistency (Eq. 3)",
        "certain": "certain pseudo labels",
    }

    kind: Literal["lacuna"]
    decision: DecisionRule | None = Field(
        default=DecisionRule(),
        description="Existence scores above or below which an unlabelled ROI is latent; between them it is ambiguous "
        "(keys: those of `latent_class`). null: existence scores are not used, and every unlabelled ROI is positive "
        "latent, so that no fully labelled data set is needed.",
    )
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
    certain_weight: NonNegative = Field(
        default=50.0,
        description="Weight of the certain pseudo labels. An organ is a few hundred of a patch's voxels, over which "
        "their cross-entropy is a mean: with 1 it is a hundredth of Eq. 1. Eq. 2 and 3 weigh 1, as in the paper.",
    )
    warmup_fraction: Fraction = Field(
        default=0.3, description="Share of the training before the certain pseudo labels count."
    )
    rampup_fraction: Fraction = Field(
        default=0.2,
        description="Share of the training, after the warm-up, over which their weight rises as exp(−5(1−t)²).",
    )

    @property
    def needs_existence(self) -> bool:
        return self.decision is not None

    @property
    def needs_organs(self) -> bool:
        return True
