"""Left and right: what a ROI or a structure becomes in an image that is mirrored along x.

A mirrored right kidney looks like a left one. So wherever a patch is flipped along x, whatever has a side changes
places with its partner. ROIs declare their partners; structures are paired by name, as TotalSegmentator names them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .rois import Roi, existence_structures
from .structures import structure_names

if TYPE_CHECKING:
    from .schema import Config

_LEFT_RIGHT = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"), ("l", "r"), ("L", "R"))
_OTHER = {one: other for pair in _LEFT_RIGHT for one, other in (pair, pair[::-1])}
_SIDE = re.compile(
    r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT)(?![a-z])"  # kidney_left, rightKidney, lobe_LEFT_2
    r"|(?<=[a-z])(?:Left|Right)(?![a-z])"  # kidneyLeft
    r"|^[lLrR](?=_)|(?<=_)[lLrR]$"  # l_kidney, kidney_R, but neither vertebra_L5 nor vertebra_L_5
)


_NOT_SYMMETRIC = ("heart_", "atrial_appendage", "brachiocephalic_")
"""Beginnings of structures whose left and right one are not mirror images; as the liver, they keep their name."""


def other_side(name: str) -> str | None:
    """`name` with left and right exchanged, None if it has no side.

    A side is the word left or right, also in CamelCase, or the letter l or r as first or last part: kidney_left →
    kidney_right, rib_right_7 → rib_left_7, R_lung → L_lung, AdrenalLeft → AdrenalRight.
    """
    exchanged = _SIDE.sub(lambda found: _OTHER[found[0]], name)
    return None if exchanged == name else exchanged


def structure_mirrors(names: Sequence[str]) -> dict[str, str | None]:
    """Structure with a side → its partner among `names`; None where that is missing (lung_middle_lobe_right).

    Those of the heart and the brachiocephalic veins are left out: a mirrored left ventricle does not look like a right
    one.
    """
    return {
        name: other if other in names else None
        for name in names
        if (other := other_side(name)) is not None and not name.startswith(_NOT_SYMMETRIC)
    }


def roi_mirrors(rois: Sequence[Roi]) -> dict[str, str]:
    """ROI → what it becomes in a mirror image, for those that declare it or are declared by their partner.

    ValueError: a declaration names an unknown ROI, or two contradict each other.
    """
    names = [roi.name for roi in rois]
    mirrors: dict[str, str] = {}
    for roi in rois:
        if roi.mirror is None:
            continue
        if roi.mirror not in names:
            raise ValueError(f"ROI {roi.name}: `mirror` names {roi.mirror}, and `rois` has: {', '.join(names)}")
        for one, other in ((roi.name, roi.mirror), (roi.mirror, roi.name)):
            if mirrors.setdefault(one, other) != other:
                raise ValueError(
                    f"ROI {one}: by the declarations of `mirror` it becomes both {mirrors[one]} and {other} in a "
                    "mirror image; partners must name each other"
                )
    return mirrors


def roi_partners(rois: Sequence[Roi]) -> dict[str, str]:
    """ROI → its partner on the other side, both ways; ROIs without a side are left out."""
    return {one: other for one, other in roi_mirrors(rois).items() if one != other}


def partner_indices(names: Sequence[str], mirrors: Mapping[str, str | None]) -> tuple[int | None, ...]:
    """For each of `names`, the place of what becomes it in a mirror image: its own unless `mirrors` has another.

    None where `mirrors` has None: a mirror image says nothing about it. Empty without `mirrors`.
    """
    if not mirrors:
        return ()
    found = [mirrors.get(name, name) for name in names]
    return tuple(None if other is None else names.index(other) for other in found)


def check_sides(config: Config) -> None:
    """ValueError if declared partners do not fit, or if a ROI has a side that flips along x would mix up."""
    mirrors = roi_mirrors(config.rois)
    known = structure_names(config.roi_aware.structures)
    structures = dict(zip(config.roi_names, existence_structures(config.rois), strict=True))
    for one, other in mirrors.items():
        expected = other_side(one)
        if expected in structures and other not in (one, expected):
            raise ValueError(f"ROI {one}: `mirror` names {other}, but by their names {expected} is its other side")
        if one != other:
            _check_partners_structures(one, other, structures, known)
    if config.augmentation.weak.flip_probability[0] == 0 and not config.inference.flip_tta:
        return
    undeclared = {name: _side_of(name, structures[name], known) for name in config.roi_names if name not in mirrors}
    sided = {name: why for name, why in undeclared.items() if why is not None}
    if sided:
        first = next(iter(sided))
        by_name = other_side(first)
        partner = by_name if by_name in sided else "OTHER_ROI"
        raise ValueError(
            f"{_listed(sided)}: flips along x would mix up left and right; declare `mirror: {partner}` for "
            f"{first} (its own name if it has no side), or set the first entry of "
            "`augmentation.weak.flip_probability` to 0 and `inference.flip_tta` to false"
        )


def _check_partners_structures(
    one: str, other: str, structures: Mapping[str, Sequence[str]], known: Sequence[str]
) -> None:
    """The structures of partners must mirror each other, but for those whose other side nobody scores."""
    partners = structure_mirrors(known)
    ones, others = (
        {name: partners.get(name, name) for name in structures[roi] if partners.get(name, name) is not None}
        for roi in (one, other)
    )
    sided = any(name in partners for name in (*ones, *others))
    if sided and set(ones.values()) != set(others):
        raise ValueError(
            f"ROI {one}: `mirror` pairs it with {other}, but their structures ({', '.join(structures[one])}; "
            f"{', '.join(structures[other])}) are not mirror images of each other"
        )


def _side_of(roi: str, structures: Sequence[str], known: Sequence[str]) -> str | None:
    """What shows that a ROI has a side; None if nothing does, as in a kidney that is right and left."""
    if other_side(roi) is not None:
        return "its name"
    sides = {name: other for name in structures if (other := other_side(name)) is not None}
    alone = [name for name, other in sides.items() if other in known and other not in structures]
    if not alone and len({_first_side(name) for name in sides}) == 1:
        alone = list(sides)
    return f"its structure {alone[0]}" if alone else None


def _first_side(name: str) -> str:
    found = _SIDE.search(name)
    assert found is not None
    return found[0][0].lower()


def _listed(sided: Mapping[str, str]) -> str:
    plural = "s" if len(sided) > 1 else ""
    has = "have" if len(sided) > 1 else "has"
    return f"ROI{plural} {', '.join(f'{name} ({why})' for name, why in sided.items())} {has} a side"
