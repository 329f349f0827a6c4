"""The table that says which ROIs each case labels: a column `case`, and one for each ROI."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from ..errors import UserError
from .label_names import bare

_COLUMNS = "write a column `case` and one for each ROI of `labels`"
_YES, _NO = ("1", "yes", "true", "x"), ("", "0", "no", "false")


def read_labelled_table(path: Path, rois: Collection[str], cases: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Case → the ROIs that it labels, for each of `cases`; other rows and columns do not count.

    Raises UserError if the table lacks a column or a case, names one twice, or has a cell that is neither yes nor no.
    """
    rows = _rows(path)
    (_, titles), *lines = rows
    header = {bare(title): place for place, title in reversed(list(enumerate(titles)))}
    missing = [name for name in ("case", *rois) if bare(name) not in header]
    if missing:
        wrong = f"has no column {missing[0]} (it has: {', '.join(titles)})"
        raise UserError(str(path), wrong, _COLUMNS)
    found: dict[str, tuple[str, ...]] = {}
    for line, row in lines:
        cells = [*row, *[""] * (len(titles) - len(row))]
        case = cells[header["case"]]
        if case in found:
            raise UserError(f"{path}, line {line}", f"lists case {case} again", "keep one of its rows")
        if case in cases:
            found[case] = tuple(roi for roi in rois if _is_yes(cells[header[bare(roi)]], roi, f"{path}, line {line}"))
    absent = [case for case in cases if case not in found]
    if absent:
        raise UserError(
            str(path), f"has no row of case {absent[0]}", "write one, with empty cells if it labels nothing"
        )
    return found


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and cells of each line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(str(path), "is not UTF-8 text", "save it as CSV in UTF-8") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    filled = [(line, row) for line, row in rows if any(row)]
    if not filled:
        raise UserError(str(path), "is empty", _COLUMNS)
    return filled


def _is_yes(cell: str, roi: str, where: str) -> bool:
    if cell.casefold() in _YES:
        return True
    if cell.casefold() in _NO:
        return False
    raise UserError(where, f"{roi} is {cell!r}", "write 1 where the case labels the ROI, and 0 or nothing elsewhere")
