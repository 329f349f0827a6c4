"""Settings of LTUDA's first stage, cross-set data augmentation, and what the whole of it shares with this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ...config.method_settings import TeacherScheduleSettings
from ...config.section import NonNegative


class CrossSetSettings(TeacherScheduleSettings):
    """The keys of every method that mixes samples with those of other data sets."""

    terms: ClassVar[Mapping[str, str]] = {
        "supervised": "supervised loss (Eq. 1)",
        "pseudo": "pseudo labels of mixed samples",
        "mixed": "labels of mixed samples",
    }

    mixed_views: Literal[1, 2] = Field(
        default=2, description="Mixed copies of each sample, each another pass of the student (published: 2)."
    )
    mixed_weight: NonNegative = Field(default=1.0, description="Weight of each mixed copy's loss (published: 1).")

    @property
    def needs_organs(self) -> bool:
        return True

    @property
    def mixes_samples(self) -> bool:
        return True


class LtudaCda(CrossSetSettings):
    """Eq. 1, and hard pseudo labels of one organ per voxel on samples that are mixed with those of other data sets.

    Jiang et al.: "Labeled-to-unlabeled distribution alignment for partially-supervised multi-organ medical image
    segmentation", Medical Image Analysis, 2025. Published: the pseudo labels, the mixing and the weights. Ours: three
    dimensions; Eq. 1 with Dice on the plain view (theirs: `dice: null`); intensity augmentation of the student's views;
    means per sample, not per class; ROIs of one organ may overlap; no second stage (`ltuda` has it).
    """

    kind: Literal["ltuda_cda"]
