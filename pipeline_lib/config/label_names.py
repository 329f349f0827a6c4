"""Names of structures as hospitals and publishers spell them: what matches which ROI.

Case, blanks, underscores and hyphens do not count: `Parotid_L`, `parotid l` and `PAROTID-L` are one name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Parts = Sequence[Sequence[str]]
"""What makes a ROI: its parts, each under any of its names. Most ROIs have one part."""


@dataclass(frozen=True)
class MatchedNames:
    """Which of the names that were found make which ROI.

    `found` has the ROIs of which every part is there, each with its parts' names as they were found; `incomplete`
    those of which some parts are there; `unmatched` are the names that no ROI wants. All keep the order in which they
    were given.
    """

    found: Mapping[str, tuple[str, ...]]
    incomplete: Mapping[str, tuple[str, ...]]
    unmatched: tuple[str, ...]


def bare(name: str) -> str:
    """`name` without what does not count: two names are the same if their bare forms are."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if not character.isspace() and character not in "_-‐‑–")


def match_names(found: Iterable[str], wanted: Mapping[str, Parts]) -> MatchedNames:
    """Match the names that a case has with those that are `wanted` (ROI → parts → names).

    Raises ValueError if two of the names that were found are the same part, so that one of them would be dropped.
    """
    owner = owners(wanted)
    places: dict[tuple[str, int], str] = {}
    unmatched = []
    for name in found:
        place = owner.get(bare(name))
        if place is None:
            unmatched.append(name)
        elif place in places:
            raise ValueError(f"has both {places[place]!r} and {name!r}, which are names of {place[0]}")
        else:
            places[place] = name
    complete: dict[str, tuple[str, ...]] = {}
    incomplete: dict[str, tuple[str, ...]] = {}
    for roi, parts in wanted.items():
        there = tuple(places[roi, number] for number in range(len(parts)) if (roi, number) in places)
        if there:
            (complete if len(there) == len(parts) else incomplete)[roi] = there
    return MatchedNames(complete, incomplete, tuple(unmatched))


def owners(wanted: Mapping[str, Parts]) -> dict[str, tuple[str, int]]:
    """Bare name → (ROI, number of its part); raises ValueError for a name that is given to two."""
    owner: dict[str, tuple[str, int]] = {}
    for roi, parts in wanted.items():
        for number, names in enumerate(parts):
            for name in names:
                place = owner.setdefault(bare(name), (roi, number))
                if place != (roi, number):
                    both = f"{place[0]} and {roi}" if place[0] != roi else f"two parts of {roi}"
                    raise ValueError(f"the name {name!r} belongs to {both}")
    return owner
