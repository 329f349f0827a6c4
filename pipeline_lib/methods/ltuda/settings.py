"""Settings of LTUDA: cross-set data augmentation, and prototypes on its features in the second part of the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...config.section import Count, NonNegative
from ..ltuda_cda.settings import CrossSetSettings


class Ltuda(CrossSetSettings):
    """`ltuda_cda`, and classes of voxels that are told apart by prototypes of labelled and of unlabelled voxels.

    Jiang et al.: "Labeled-to-unlabeled distribution alignment for partially-supervised multi-organ medical image
    segmentation", Medical Image Analysis, 2025. Published: projection, both banks of prototypes, their assignment and
    update, and the terms with their weights. Ours, besides what differs in `ltuda_cda`: sigmoids predict, not
    prototypes; a class is a set of ROIs that a voxel can be in, since ROIs of one organ may overlap; one training that
    adds prototypes on its way, in place of a second that starts from the best model of the first; voxels are drawn; the
    best assignment is taken, not drawn.
    """

    needs_features: ClassVar[bool] = True
    terms: ClassVar[Mapping[str, str]] = {
        **CrossSetSettings.terms,
        "labelled_prototypes": "prototypes of labelled voxels",
        "unlabelled_prototypes": "prototypes of unlabelled voxels",
    }

    kind: Literal["ltuda"]
    prototypes_after: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.5,
        description="Share of the training that is `ltuda_cda`; then prototypes replace the labels of mixed copies.",
    )
    prototype_weight: NonNegative = Field(default=1.0, description="Weight of both banks' terms (published: 1).")
    prototypes_per_class: Count = Field(default=5, description="Prototypes of each class in each bank.")
    prototype_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.999, description="Share of a prototype that a step leaves as it is (published: 0.999)."
    )
    prototype_voxels: Count = Field(
        default=8192,
        description="Voxels of each mixed copy of a sample that prototypes see, drawn anew each time (published: all).",
    )

    @model_validator(mode="after")
    def _prototypes_have_targets(self) -> Self:
        if self.prototypes_after < self.warmup_fraction:
            raise ValueError(
                "prototypes need the teacher's pseudo labels: `prototypes_after` must be at least `warmup_fraction`"
            )
        return self
