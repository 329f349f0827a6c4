"""The regions of interest: their order, their names for people, and whose existence they take."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from .section import Name, Section

LESION_WORDS = ("tumor", "tumour", "cancer", "lesion", "metastas", "nodule")
"""A ROI whose name contains one of these consists of separate lesions that can be counted."""


def is_lesion(roi: str) -> bool:
    """Whether the ROI of this name consists of lesions."""
    return any(word in roi.lower() for word in LESION_WORDS)


class Roi(Section):
    """One region of interest; its place in the list is its bit in every label."""

    name: Name = Field(description="Short name, used in paths, columns and data set files.")
    text: str = Field(min_length=1, description="Words put into the prompt for the text encoder.")
    structures: tuple[Name, ...] = Field(
        default=(),
        description="Structures of the ROI-aware network whose highest score is this ROI's existence.",
    )
    organ: Name | None = Field(
        default=None, description="ROI whose existence this one takes (a tumour takes its organ's)."
    )
    mirror: Name | None = Field(
        default=None,
        description="ROI that this one becomes in an image mirrored along x, as kidney_right for kidney_left; one of "
        "the two may declare it. Flips exchange them. Its own name says that it has no side, whatever its name and "
        "structures look like.",
    )

    @model_validator(mode="after")
    def _one_source_of_existence(self) -> Self:
        if bool(self.structures) == (self.organ is not None):
            raise ValueError(f"ROI {self.name} needs either `structures` or `organ`, and not both")
        return self


def check_rois(rois: tuple[Roi, ...]) -> tuple[Roi, ...]:
    """Refuse double names and organs that are no ROI with structures of their own."""
    names = [roi.name for roi in rois]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"ROI named twice: {', '.join(twice)}")
    with_structures = {roi.name for roi in rois if roi.structures}
    for roi in rois:
        if roi.organ is not None and roi.organ not in with_structures:
            raise ValueError(
                f"ROI {roi.name} takes the existence of {roi.organ!r}, which is not a ROI with structures "
                f"(those are: {', '.join(sorted(with_structures))})"
            )
    return rois


def existence_structures(rois: tuple[Roi, ...]) -> tuple[tuple[str, ...], ...]:
    """For each ROI in order, the structures that decide its existence, organs' inherited by tumours."""
    own = {roi.name: roi.structures for roi in rois}
    return tuple(own[roi.organ] if roi.organ is not None else roi.structures for roi in rois)
