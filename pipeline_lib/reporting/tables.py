"""The Dice table in the layout of Table 1 of [LC] (docs/glossary.md), as numbers and as text.

python -m pipeline_lib.reporting.tables results/report
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .results import OUT_OF_FOLD, Results, method_label

TABLE, PAGE = "table.csv", "index.html"
"""Names in the report's folder."""

_OUT_OF_FOLD_TITLE = "Out of fold: training cases, each predicted by the network that did not learn from its patient"
_TEST_TITLE = "Test cases, predicted with the average of the folds"

AVERAGE = "average"
MEASURED, PAPER = "measured", "paper"
MOTS = frozenset(
    {
        "Task03_Liver",
        "kits19",
        "Task08_HepaticVessel",
        "Task07_Pancreas",
        "Task10_Colon",
        "Task06_Lung",
        "Task09_Spleen",
    }
)
"""Names of the data sets of [LC]'s experiment."""

_PAPER_TABLE = Path(__file__).with_name("paper_table1.csv")


def dice_table(results: Results, convention: str, datasets: Sequence[str]) -> pd.DataFrame:
    """Mean Dice in per cent: a row per method, a column per ROI, and their average.

    A cell is the mean over cases, then over seeds; the average is the mean of the ROIs' means, as in Table 1 of [LC].
    Where ROIs and data sets are those of the paper, its rows follow with `source` paper.
    """
    rows = []
    for method in results.methods:
        cells = {roi: _class_mean(results, method, roi) for roi in results.rois}
        rows.append({"source": MEASURED, "method": method, **cells, AVERAGE: _mean(list(cells.values()))})
    table = pd.DataFrame(rows)
    if is_paper_experiment(results.rois, datasets):
        paper = pd.read_csv(_PAPER_TABLE)
        paper.insert(0, "source", PAPER)
        table = pd.concat([table, paper], ignore_index=True)
    table.insert(2, "convention", np.where(table["source"] == MEASURED, convention, "not stated"))
    return table


def is_paper_experiment(rois: Sequence[str], datasets: Sequence[str]) -> bool:
    """Whether the paper's numbers can be compared with ours: the same ROIs, and at least its seven data sets."""
    paper_rois = pd.read_csv(_PAPER_TABLE, nrows=0).columns[1:-1]
    return list(rois) == list(paper_rois) and set(datasets) >= MOTS


def best_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Which numbers to set in bold: per source and column the best two, or the best one of fewer than four rows.

    Equal numbers are bold together; a number that is no better than the worst is not.
    """
    bold = pd.DataFrame(False, index=table.index, columns=table.columns)
    for _, group in table.groupby("source"):
        count = 2 if len(group) >= 4 else 1
        for column in table.columns[3:]:
            values = group[column].dropna().round(2)
            if len(group) > 1 and len(values):
                good = (values >= values.nlargest(count).min()) & (values > values.min())
                bold.loc[values.index[good], column] = True
    return bold


def text_table(table: pd.DataFrame) -> str:
    """The table with aligned columns for a terminal; the best numbers carry a star."""
    bold = best_cells(table)
    columns = list(table.columns[3:])
    headers = [column.split("_") for column in columns]
    height = max(len(words) for words in headers)
    names = [
        method_label(method) + (" [paper]" if source == PAPER else "")
        for source, method in zip(table["source"], table["method"], strict=True)
    ]
    cells = [[_cell(table.at[row, column], bool(bold.at[row, column])) for column in columns] for row in table.index]
    first = max(len(name) for name in (*names, "method"))
    widths = [
        max(*(len(word) for word in words), *(len(line[place].rstrip()) for line in cells), 5) + 1
        for place, words in enumerate(headers)
    ]
    lines = []
    for level in range(height):
        words = [header[level - height + len(header)] if level >= height - len(header) else "" for header in headers]
        title = "method" if level == height - 1 else ""
        lines.append(
            title.ljust(first) + "".join(" " + word.rjust(w - 1) + " " for word, w in zip(words, widths, strict=True))
        )
    lines.append("-" * len(lines[0]))
    for name, line in zip(names, cells, strict=True):
        lines.append(name.ljust(first) + "".join(" " + cell.rjust(w) for cell, w in zip(line, widths, strict=True)))
    measured = table.loc[table["source"] == MEASURED, "convention"]
    stars = "the best two" if (table.groupby("source").size() >= 4).any() else "the best"
    lines.append("")
    lines.append(f"Dice in %, convention {measured.iloc[0]}; average is the mean of the ROIs' means; * marks {stars}")
    return "\n".join(line.rstrip() for line in lines)


def text_tables(of_tests: pd.DataFrame | None, out_of_fold: pd.DataFrame | None) -> str:
    """The table of the test cases, below that of cross-validation; either may be missing."""
    if of_tests is not None and out_of_fold is None:
        return text_table(of_tests)
    titled = ((_OUT_OF_FOLD_TITLE, out_of_fold), (_TEST_TITLE, of_tests))
    return "\n\n".join(f"{title}\n\n{text_table(table)}" for title, table in titled if table is not None)


def _class_mean(results: Results, method: str, roi: str) -> float:
    per_seed = results.matrix(method, roi).mean(axis=0)
    return 100 * float(per_seed.mean()) if len(per_seed) else math.nan


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _cell(value: float, best: bool) -> str:
    return "–" + " " if math.isnan(value) else f"{value:.2f}{'*' if best else ' '}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the Dice table of a report.")
    parser.add_argument("report", type=Path, help="the report's folder, results/report")
    folder = parser.parse_args().report
    paths = (folder / TABLE, folder / (OUT_OF_FOLD + TABLE))
    of_tests, out_of_fold = (pd.read_csv(path) if path.is_file() else None for path in paths)
    if of_tests is None and out_of_fold is None:
        sys.exit(f"error: {paths[0]}: is missing; make the report first (snakemake --cores all report)")
    print(text_tables(of_tests, out_of_fold))
    print(f"Report: {folder / PAGE}")


if __name__ == "__main__":
    main()
