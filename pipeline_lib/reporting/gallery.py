"""All figures of a report, drawn one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .evidence import Evidence
from .figure_kind import SCORES, FigureKind
from .figures import FIGURES
from .results import roi_label
from .style import figure_style, save


@dataclass(frozen=True)
class Shown:
    """A figure in the report: its file name without ending, section, title, caption, and whether it starts folded."""

    name: str
    section: str
    title: str
    caption: str
    folded: bool = False


def planned(evidence: Evidence) -> list[tuple[FigureKind, str]]:
    """Every figure that there is evidence for, as its kind and item, in the order of the page."""
    return [(kind, item) for kind in FIGURES for item in kind.items(evidence)]


def draw_all(evidence: Evidence, folder: Path) -> Iterator[Shown]:
    """Draw all figures that are `planned`, as PNG and SVG in a subfolder of `folder` for each section."""
    with figure_style():
        for kind, item in planned(evidence):
            name = f"{kind.name}_{item}" if item else kind.name
            # Data sets keep their names, which are those of files; ROIs and methods are written for people.
            title = kind.title.format(item=item if kind.section == SCORES else roi_label(item))
            save(kind.draw(evidence, item), folder / kind.section, name)
            yield Shown(name, kind.section, title, kind.caption_of(evidence, item), kind.folded)
