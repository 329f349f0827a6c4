"""What the registry of figures says about each of them, and the sections of the page that they stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from matplotlib.figure import Figure

from .evidence import Evidence

SCORES, SLICES, TRAINING, EXISTENCE, DATA = "scores", "slices", "training", "existence", "data"
"""Sections of the page that figures belong to."""

ALONE = ("",)
"""The items of a kind that has a single figure."""


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    `items` are the ROIs, methods or data sets that it is drawn for, one figure each: `ALONE` for a single figure, and
    none where the evidence that it needs is missing. `draw` takes the evidence and the item, and so does `caption`
    unless it is the same for all; `{item}` in the title is the item's name for people. `folded` figures are closed when
    the page opens.
    """

    name: str
    section: str
    title: str
    items: Callable[[Evidence], Iterable[str]]
    draw: Callable[[Evidence, str], Figure]
    caption: str | Callable[[Evidence, str], str]
    folded: bool = False

    def caption_of(self, evidence: Evidence, item: str) -> str:
        return self.caption if isinstance(self.caption, str) else self.caption(evidence, item)
