"""The style of all figures: fonts, sizes, and colours that colour-blind people can distinguish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Okabe and Ito's palette, the dark and saturated ones first; black is kept for the truth and for text.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#F0E442")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
TRUTH_COLOUR = "#FFFFFF"
MUTED = "#767676"
LABELLED, POSITIVE, NEGATIVE, AMBIGUOUS = "#000000", "#009E73", "#0072B2", "#E69F00"

# Of the ROIs: no two blues or greens, since organs lie beside each other and are filled, half transparent, on grey.
_HUES = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (213, 72, 0), (120, 60, 160))
_DARKER, _SHADES = 0.55, 3

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "lacuna",
    "savefig.dpi": 160,
}


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour per method, the same in every figure."""
    return {method: PALETTE[place % len(PALETTE)] for place, method in enumerate(methods)}


def method_markers(methods: Sequence[str]) -> dict[str, str]:
    """One marker per method, so that colour is never the only difference, and no two have both the same."""
    return {method: MARKERS[(place + place // len(PALETTE)) % len(MARKERS)] for place, method in enumerate(methods)}


def roi_colours(rois: Sequence[str]) -> list[tuple[int, int, int]]:
    """One colour per ROI: an organ and its tumours share a hue, the tumour is the lighter one.

    A tumour whose organ is not a ROI has a hue of its own. After all hues, the same ones come again, darker, and darker
    once more; then everything repeats.
    """
    families: dict[str, int] = {}
    colours = []
    for roi in rois:
        parent = max((other for other in rois if roi.startswith(other + "_")), key=len, default=None)
        number = families.setdefault(parent or roi, len(families))
        darker = _DARKER ** (number // len(_HUES) % _SHADES)
        hue = tuple(round(darker * part) for part in _HUES[number % len(_HUES)])
        colours.append(tuple((part + 2 * 255) // 3 for part in hue) if parent else hue)
    return colours


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the common style inside the block, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME.png and NAME.svg into `folder`; both are equal for equal figures."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
