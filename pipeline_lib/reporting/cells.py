"""Numbers as the page shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def cell(value: float, digits: int) -> dict[str, Any]:
    """The text of a cell, and the value that its column is sorted by; a dash for NaN."""
    if math.isnan(value):
        return {"value": "", "text": "–"}
    return {"value": f"{value:.6g}", "text": f"{value:.{digits}f}"}


def percent(value: float, signed: bool = False) -> str:
    """A share in per cent, or a difference of shares in percentage points."""
    if math.isnan(value):
        return "–"
    text = f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def interval(low: float, high: float, signed: bool = False) -> str:
    """An interval of shares, in per cent."""
    return "–" if math.isnan(low) else f"{percent(low, signed)} to {percent(high, signed)}"


def difference_interval(row: Mapping[str, Any]) -> str:
    """The interval of a row of `statistics.difference_table`."""
    return interval(row["low"], row["high"], signed=True)


def p_cell(p: float) -> dict[str, str]:
    """A p-value for a cell, and how it follows the letter p in a `sentence`."""
    if math.isnan(p):
        return {"value": "", "text": "–", "sentence": "unknown"}
    text = f"{p:.3f}" if p >= 0.001 else "< 0.001"
    return {"value": f"{p:.3g}", "text": text, "sentence": text if p < 0.001 else f"= {text}"}
