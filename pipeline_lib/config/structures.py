"""Names of the structures that TotalSegmentator labels, in the order of its class lists."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path


@cache
def _class_lists() -> dict[str, tuple[str, ...]]:
    content = json.loads((Path(__file__).parent / "totalsegmentator_structures.json").read_text(encoding="utf-8"))
    return {version: tuple(names) for version, names in content.items()}


def structure_names(structures: str | tuple[str, ...]) -> tuple[str, ...]:
    """The structures themselves, or those that a class list's name stands for (v1: 104, v2: 117)."""
    return _class_lists()[structures] if isinstance(structures, str) else structures
