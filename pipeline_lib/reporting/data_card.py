"""The data card: what the data sets contain and label, and which cases are left out or marked as doubtful."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from ..config.datasets import Dataset
from .results import roi_label

_BLUES = LinearSegmentedColormap.from_list("label volumes", ["#e3eef6", "#0072B2", "#00324f"])


def read_cases(files: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """Data set → its cases.csv."""
    texts = dict.fromkeys(("dataset", "case", "labelled"), str)
    tables = [pd.read_csv(file, dtype=texts, keep_default_na=True) for file in files]
    return {str(table["dataset"].iloc[0]): table for table in tables}


def labelled_by_case(cases: Mapping[str, pd.DataFrame]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(data set, case) → the ROIs that it labels."""
    return {
        (name, case): tuple(rois.split())
        for name, table in cases.items()
        for case, rois in zip(table["case"], table["labelled"].fillna(""), strict=True)
    }


def data_card(cases: Mapping[str, pd.DataFrame], datasets: Sequence[Dataset], rois: Sequence[str]) -> pd.DataFrame:
    """One row per data set: cases, original grids, what it labels, its licence."""
    rows = []
    for dataset in datasets:
        table = cases.get(dataset.name)
        if table is None:
            continue
        spacing = table[[f"original_spacing_{axis}_mm" for axis in "xyz"]]
        labelled = [_with_cases(table, roi) for roi in rois if roi in dataset.labels]
        rows.append(
            {
                "dataset": dataset.name,
                "training": int((table["split"] == "train").sum()),
                "test": int((table["split"] == "test").sum()),
                "left out": len(dataset.skip),
                "doubted": len(dataset.doubted),
                "labels": _in_words(dataset, table, labelled),
                "median spacing (mm)": " × ".join(f"{spacing[axis].median():.2f}" for axis in spacing),
                "coarsest axis (mm)": _range(spacing.max(axis=1), 1),
                "median size (voxels)": " × ".join(f"{table[f'original_size_{axis}'].median():.0f}" for axis in "xyz"),
                "layout": str(dataset.layout),
                "licence": dataset.licence,
            }
        )
    return pd.DataFrame(rows)


def labelled_rois(cases: Mapping[str, pd.DataFrame], datasets: Sequence[Dataset]) -> pd.DataFrame:
    """One row per data set and ROI or structure that it labels: in how many cases it is present, and its voxels.

    Voxels are those of the volumes; the volume in ml is the median over the cases that contain it.
    """
    rows = []
    for dataset in datasets:
        table = cases.get(dataset.name, pd.DataFrame())
        for column in table.columns[table.columns.str.startswith("voxels_")]:
            voxels = table[column].dropna()
            if voxels.empty:
                continue
            held = voxels[voxels > 0]
            millilitres = held * table.loc[held.index, [f"spacing_{axis}_mm" for axis in "xyz"]].prod(axis=1) / 1000
            rows.append(
                {
                    "dataset": dataset.name,
                    "roi": column.removeprefix("voxels_"),
                    "labelled_cases": len(voxels),
                    "cases_with_it": len(held),
                    "voxels_in_all": int(held.sum()),
                    "median_voxels": held.median(),
                    "median_ml": millilitres.median(),
                }
            )
    return pd.DataFrame(rows)


def odd_cases(datasets: Sequence[Dataset]) -> pd.DataFrame:
    """Cases that are left out or doubted, each with its reason."""
    rows = [
        {"dataset": dataset.name, "case": entry.case, "kept": kept, "reason": entry.reason}
        for dataset in datasets
        for kept, entries in (("left out", dataset.skip), ("kept, doubted", dataset.doubted))
        for entry in entries
    ]
    return pd.DataFrame(rows, columns=["dataset", "case", "kept", "reason"])


def label_volume_figure(cases: Mapping[str, pd.DataFrame], datasets: Sequence[Dataset], rois: Sequence[str]) -> Figure:
    """Data sets × ROIs: median labelled volume in ml over the cases that contain the ROI, and how many cases do.

    A cell with a dash is not labelled: unknown, which is not the same as absent.
    """
    names = [dataset.name for dataset in datasets if dataset.labels and dataset.name in cases]
    volumes = np.full((len(names), len(rois)), np.nan)
    counts = {}
    for row, name in enumerate(names):
        table = cases[name]
        millilitres = table[[f"spacing_{axis}_mm" for axis in "xyz"]].prod(axis=1) / 1000
        for column, roi in enumerate(rois):
            voxels = table[f"voxels_{roi}"]
            if voxels.notna().any():
                present = voxels > 0
                counts[row, column] = (int(present.sum()), int(voxels.notna().sum()))
                volumes[row, column] = (voxels * millilitres)[present].median() if present.any() else np.nan
    figure = Figure(figsize=(max(6.0, 1.9 + 0.72 * len(rois)), 1.9 + 0.42 * len(names)))
    axes = figure.add_subplot()
    finite = volumes[np.isfinite(volumes)]
    low, high = (max(finite.min(), 0.1), max(finite.max(), 1.0)) if len(finite) else (0.1, 1.0)
    image = axes.imshow(volumes, cmap=_BLUES, norm=LogNorm(low, max(high, 1.01 * low)), aspect="auto")
    for row in range(len(names)):
        for column in range(len(rois)):
            if (row, column) not in counts:
                axes.text(column, row, "–", ha="center", va="center", color="#9a9a9a")
                continue
            value = volumes[row, column]
            dark = np.isfinite(value) and np.log(value / low) > 0.45 * np.log(max(high, 1.01 * low) / low)
            present, labelled = counts[row, column]
            amount = f"{value:.0f}" if np.isfinite(value) and value >= 10 else f"{value:.1f}"
            axes.text(
                column,
                row,
                f"{amount if np.isfinite(value) else '0'}\n{present}/{labelled}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(rois)), [roi_label(roi) for roi in rois], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(np.arange(len(rois) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    scale = figure.colorbar(image, ax=axes, label="median volume (ml)", pad=0.02, aspect=15)
    # Over less than a decade the ticks between powers of ten have labels too, as in 2×10¹.
    scale.ax.yaxis.set_major_formatter("{x:g}")
    if high < 10 * low:
        scale.ax.yaxis.set_minor_formatter("{x:g}")
    return figure


def _in_words(dataset: Dataset, table: pd.DataFrame, labelled: Sequence[str]) -> str:
    if dataset.has_no_labels:
        return "no labels"
    return ", ".join(labelled) or f"{_labelled_count(table)} structures"


def _labelled_count(table: pd.DataFrame) -> int:
    """The most structures that a case labels."""
    return int(table["labelled"].fillna("").str.split().str.len().max())


def _with_cases(table: pd.DataFrame, roi: str) -> str:
    """A ROI's name and, where not every case labels it, how many do."""
    labelled, cases = int(table[f"voxels_{roi}"].notna().sum()), len(table)
    return roi_label(roi) if labelled == cases else f"{roi_label(roi)} ({labelled} of {cases} cases)"


def _range(values: pd.Series, digits: int) -> str:
    low, high = f"{values.min():.{digits}f}", f"{values.max():.{digits}f}"
    return low if low == high else f"{low}–{high}"
