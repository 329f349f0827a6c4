"""The regions of interest: their order, their names for people, and whose existence they take."""

from __future__ import annotations

from difflib import get_close_matches
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
        description="Structures of the ROI-aware network whose highest score is this ROI's existence. Needed, unless "
        "`organ` is given, where there is a fully labelled data set.",
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
        if self.structures and self.organ is not None:
            raise ValueError(f"ROI {self.name} needs either `structures` or `organ`, and not both")
        return self


def check_rois(rois: tuple[Roi, ...], available: tuple[str, ...], need_existence: bool) -> None:
    """Refuse double names, unknown structures, and organs that are not ROIs of their own.

    `available` are the structures of the ROI-aware network. Where there is one (`need_existence`), every ROI must say
    what its existence is taken from.
    """
    names = [roi.name for roi in rois]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"ROI named twice: {', '.join(twice)}")
    organs = {roi.name for roi in rois if roi.structures or not (need_existence or roi.organ)}
    for roi in rois:
        if roi.organ is not None and roi.organ not in organs:
            raise ValueError(
                f"ROI {roi.name} takes the existence of {roi.organ!r}, which is not a ROI with structures "
                f"(those are: {', '.join(sorted(organs))})"
            )
        if need_existence and not has_existence(roi):
            raise ValueError(f"ROI {roi.name} needs either `structures` or `organ`{_similar(roi.name, available)}")
        unknown = sorted(set(roi.structures) - set(available))
        if unknown:
            similar = _similar(unknown[0], available)
            raise ValueError(f"ROI {roi.name}: {', '.join(unknown)} not in `roi_aware.structures`{similar}")


def has_existence(roi: Roi) -> bool:
    """Whether the config says what the existence of `roi` is taken from."""
    return bool(roi.structures) or roi.organ is not None


def _similar(name: str, available: tuple[str, ...]) -> str:
    """The structures that may be meant by `name`, as the end of a message."""
    words = name.lower().split("_")
    found = [structure for structure in available if set(words) & set(structure.lower().split("_"))]
    found = found or get_close_matches(name, available)
    return f" (is it {', '.join(found[:5])}?)" if found else ""


def existence_structures(rois: tuple[Roi, ...]) -> tuple[tuple[str, ...], ...]:
    """For each ROI in order, the structures that decide its existence, organs' inherited by tumours."""
    own = {roi.name: roi.structures for roi in rois}
    return tuple(own[roi.organ] if roi.organ is not None else roi.structures for roi in rois)
