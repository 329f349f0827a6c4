"""What a ROI is in the words of DICOM: SNOMED CT codes for the anatomy of CTs, a code of our own for everything else.

snomed.csv has the structures: names by which ROIs go, without a side unless the side is part of the concept, and the
region of a structure that has no concept of its own. Codes are those of DICOM's context groups (PS3.16) where they have
the structure, and of TotalSegmentator's published mapping of its classes.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SNOMED, PRIVATE = "SCT", "99LACUNA"


@dataclass(frozen=True)
class Code:
    """A coded concept: what it means, and its value in a coding scheme."""

    value: str
    meaning: str
    scheme: str = SNOMED


@dataclass(frozen=True)
class Coded:
    """A ROI's category, type and side, and the region in which it lies where that is not the type itself."""

    category: Code
    type: Code
    side: Code | None = None
    region: Code | None = None


_ANATOMY = Code("91723000", "Anatomical Structure")
_ABNORMAL = Code("49755003", "Morphologically Abnormal Structure")
_LEFT, _RIGHT = Code("7771000", "Left"), Code("24028007", "Right")
_SIDES = {"left": _LEFT, "l": _LEFT, "lt": _LEFT, "right": _RIGHT, "r": _RIGHT, "rt": _RIGHT}
_TUMOUR = Code("108369006", "Neoplasm")
_ABNORMALITIES = {
    "tumor": _TUMOUR,
    "tumour": _TUMOUR,
    "cancer": _TUMOUR,
    "metastasis": Code("14799000", "Neoplasm, Secondary"),
    "lesion": Code("52988006", "Lesion"),
    "nodule": Code("27925004", "Nodule"),
    "cyst": Code("367643001", "Cyst"),
}
"""By a word of a ROI's name. The rest of the name is the organ."""


def coded(roi: str) -> Coded:
    """The codes of a ROI by its name, in whatever case and with the side at either end (`parotid_left`, `Lt Parotid`).

    A name that the table does not have is a code itself, in the scheme `PRIVATE`.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", roi.lower()) if word]
    if found := _structures().get("_".join(words)):
        return Coded(_ANATOMY, found.code, region=found.region)
    side = next((_SIDES[word] for word in words if word in _SIDES), None)
    rest = [word for word in words if word not in _SIDES]
    abnormal = [_ABNORMALITIES[word] for word in map(_singular, rest) if word in _ABNORMALITIES]
    organ = _structures().get("_".join(word for word in rest if _singular(word) not in _ABNORMALITIES))
    if abnormal:
        return Coded(_ABNORMAL, abnormal[0], side, (organ.region or organ.code) if organ else None)
    if organ:
        return Coded(_ANATOMY, organ.code, side, organ.region)
    return Coded(_ANATOMY, Code(roi, roi, PRIVATE))


@dataclass(frozen=True)
class _Structure:
    code: Code
    region: Code | None


def _singular(word: str) -> str:
    return word.replace("metastases", "metastasis") if word.startswith("metasta") else word.removesuffix("s")


@cache
def _structures() -> dict[str, _Structure]:
    """Name → structure."""
    text = (Path(__file__).parent / "snomed.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    codes = {name: Code(row["code"], row["meaning"]) for row in rows for name in row["names"].split()}
    return {name: _Structure(codes[name], codes.get(row["region"])) for row in rows for name in row["names"].split()}
