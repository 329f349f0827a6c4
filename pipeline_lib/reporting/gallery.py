"""All figures of a report, with their captions, drawn one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ..config.datasets import Dataset
from ..config.methods import Method
from ..scoring.dice import CONVENTION_TEXTS
from .data_card import label_volume_figure
from .dice_figure import dice_figure
from .existence_check import ExistenceCheck, existence_check_figure
from .label_curve import label_curve_figure, label_curves
from .overview import choose_median_cases, overview_panel
from .panels import choose_cases, roi_panel
from .results import Results, method_label, roi_label
from .roi_aware_figure import reliability_figure
from .scans import Scan
from .style import figure_style, save
from .training_figures import (
    common_thresholds,
    decision_figure,
    existence_figure,
    has_decisions,
    loss_figure,
    loss_terms,
)

SCORES, SLICES, TRAINING, EXISTENCE, DATA = "scores", "slices", "training", "existence", "data"
"""Sections of the page that figures belong to."""


@dataclass(frozen=True)
class Shown:
    """A figure in the report: its file name without ending, section, title, caption, and whether it starts folded."""

    name: str
    section: str
    title: str
    caption: str
    folded: bool = False


@dataclass(frozen=True)
class Material:
    """What figures are drawn from.

    `runs` has, for each method, the run that stands for it in slices; `histories` each run's method and history;
    `existence` the scores of all pooled patches; `check` what stage check_existence found; `metrics` those of the
    ROI-aware network.
    """

    results: Results
    summary: pd.DataFrame
    convention: str
    runs: Mapping[str, str]
    scans: Mapping[tuple[str, str], Scan]
    histories: Mapping[str, tuple[str, pd.DataFrame]]
    existence: pd.DataFrame | None
    check: ExistenceCheck | None
    metrics: Mapping[str, Any] | None
    cases: Mapping[str, pd.DataFrame]
    datasets: Sequence[Dataset]
    structures: Sequence[Sequence[str]]
    methods: Mapping[str, Method]


def draw_all(material: Material, folder: Path) -> Iterator[Shown]:
    """Draw every figure that there is material for, as PNG and SVG in a subfolder of `folder` for each section."""
    with figure_style():
        for shown, figure in _figures(material):
            save(figure, folder / shown.section, shown.name)
            yield shown


def _figures(material: Material) -> Iterator[tuple[Shown, Figure]]:
    yield from _of_scores(material)
    yield from _of_slices(material)
    yield from _of_training(material)
    yield from _of_existence(material)
    yield from _of_data(material)


def _of_scores(material: Material) -> Iterator[tuple[Shown, Figure]]:
    several = material.results.several_trainings
    drawn = "cases and trainings" if several else "cases alone, since each method has one training"
    caption = (
        f"The large marker is the mean, the line its 95 % interval over {drawn}; the faint points below are the "
        f"test cases. Dice: {CONVENTION_TEXTS[material.convention]}."
    )
    yield (
        Shown("dice", SCORES, "Dice per ROI", caption),
        dice_figure(material.results, material.summary, material.convention),
    )
    for dataset in material.datasets:
        curves = label_curves(dataset, material.methods, material.results)
        if curves:
            caption = (
                f"Mean Dice of what {dataset.name} labels, over all test cases, against the number of its labelled "
                "cases that are learned from; all else is equal, the length of the training too. Line: mean over "
                f"trainings; band: 95 % interval over {drawn}; faint: single trainings."
            )
            yield (
                Shown(f"labelled_cases_{dataset.name}", SCORES, f"Labelled cases of {dataset.name}", caption),
                label_curve_figure(curves, dataset, material.results.methods),
            )


def _of_slices(material: Material) -> Iterator[tuple[Shown, Figure]]:
    cases = choose_median_cases(material.results)
    if cases:
        caption = (
            "The median test case of each data set by Dice, averaged over ROIs and methods: truth beside what each "
            "method predicts, all ROIs at once. Where the truth is not known for a ROI, it is not drawn. The slices "
            f"are those that cut the most ROIs.{_which_training(material)}"
        )
        yield (
            Shown("slices", SLICES, "All ROIs in one case of each data set", caption),
            overview_panel([material.scans[each] for each in cases], material.runs),
        )
    for roi in material.results.rois:
        choices = choose_cases(material.results, roi, material.runs)
        if not choices:
            continue
        cases = "; ".join(f"{choice.rank}: {choice.dataset}/{choice.case}" for choice in choices)
        caption = (
            f"The median and the worst test case by the Dice of {roi_label(roi)}, averaged over the methods, of the "
            f"cases that hold it ({cases}). The slice is the one in which the truth is largest. White: truth; colour: "
            f"the method's prediction; numbers: its Dice in %.{_which_training(material)}"
        )
        yield (
            Shown(f"slices_{roi}", SLICES, f"{roi_label(roi)}: median and worst case", caption, folded=True),
            roi_panel(roi, choices, material.scans, material.runs),
        )


def _which_training(material: Material) -> str:
    return " Of several trainings of a method the first is shown." if material.results.several_trainings else ""


def _of_training(material: Material) -> Iterator[tuple[Shown, Figure]]:
    if not material.histories:
        return
    caption = (
        "Terms of the student's loss, before their weights; a term that a method does not have is not "
        "drawn. Faint: as logged; line: running mean, one for each training."
    )
    yield (
        Shown("losses", TRAINING, "Training curves", caption),
        loss_figure(material.histories, material.results.methods, loss_terms(material.methods.values())),
    )
    for method, run in material.runs.items():
        if run not in material.histories:
            continue
        _, history = material.histories[run]
        if has_decisions(history, material.results.rois):
            caption = (
                "What each ROI was taken for in the samples of the training: labelled by the data set; positive or "
                "negative latent, where its existence score is above φ_h or below φ_l; ambiguous between the two."
            )
            yield (
                Shown(f"decisions_{method}", TRAINING, f"Decisions of {method_label(method)}", caption),
                decision_figure(history, material.results.rois, method),
            )


def _of_existence(material: Material) -> Iterator[tuple[Shown, Figure]]:
    if material.metrics is not None:
        structures = tuple(dict.fromkeys(name for names in material.structures for name in names))
        caption = (
            f"The ROI-aware network on {material.metrics['patches']} patches of the cases held out from its training, "
            "for the structures that decide a ROI's existence."
        )
        yield (
            Shown("reliability", EXISTENCE, "The ROI-aware network", caption),
            reliability_figure(material.metrics, structures),
        )
    labelled = {dataset.name: tuple(dataset.labels) for dataset in material.datasets}
    thresholds = common_thresholds(material.methods.values())
    if material.existence is not None and material.existence["dataset"].isin(labelled).all():
        caption = (
            "Existence scores of the pooled training patches, for each ROI over the data sets that do not label it. "
            "What lies between the thresholds φ_l and φ_h is ambiguous, what lies outside is latent."
        )
        yield (
            Shown("existence", EXISTENCE, "Existence scores", caption),
            existence_figure(material.existence, material.results.rois, labelled, thresholds),
        )
    if material.check is not None:
        patches = "pooled patches that do not label the ROI, against the phantoms' full truth"
        if not material.check.of_pools:
            patches = "training crops that label the ROI, as if they did not: the full truth is not known"
        caption = (
            f"Decisions by the thresholds of {material.check.methods}. Left: cached scores, of the patch as it is, "
            f"against online scores, of the augmented x_T, on a training's first crops. Middle and right: {patches}. "
            "Bar: share of the patches with (without) the ROI that are taken for that; marker: share of the decisions "
            "that are right; black line: the same with regard to the ROI whose existence a tumour or vessel takes."
        )
        yield (
            Shown("existence_check", EXISTENCE, "Decisions about existence", caption),
            existence_check_figure(material.check, material.results.rois),
        )


def _of_data(material: Material) -> Iterator[tuple[Shown, Figure]]:
    caption = (
        "Which data set labels which ROI: median volume in ml over the cases that hold it, and below it in how many of "
        "the labelled cases it is present. A dash: not labelled, so unknown."
    )
    yield (
        Shown("labels", DATA, "Labels", caption),
        label_volume_figure(material.cases, material.datasets, material.results.rois),
    )
