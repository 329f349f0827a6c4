"""The registry of figures: what each is drawn for, its caption, and the section of the page that it stands in.

A new figure is one more `FigureKind` in `FIGURES`, with a function that draws it.
"""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.figure import Figure

from ..config.datasets import Dataset
from ..scoring.dice import CONVENTION_TEXTS
from .confusion import any_pair, confusion_caption, confusion_figure
from .data_card import label_volume_figure, labelled_by_case
from .dice_figure import dice_figure
from .evidence import Evidence
from .existence_check import existence_check_caption, existence_check_figure
from .false_voxels import false_voxel_figure, false_voxels_caption
from .figure_kind import ALONE, DATA, EXISTENCE, SCORES, SLICES, TRAINING, FigureKind
from .label_curve import LabelCurve, cases_spared, label_curve_figure, label_curves, overall_label_curves
from .overview import choose_median_cases
from .pseudo_labels import PSEUDO_LABELS_CAPTION, pseudo_label_figure
from .results import method_label
from .roi_aware_figure import reliability_figure
from .slice_figures import overview_caption, overview_figure, roi_caption, roi_figure, rois_with_cases
from .training_figures import (
    common_thresholds,
    decision_figure,
    existence_figure,
    has_decisions,
    loss_figure,
    loss_terms,
)
from .validation_figure import VALIDATION_CAPTION, validated, validation_figure


def _if_there(thing: object) -> Iterable[str]:
    return ALONE if thing is not None else ()


def _over_what(evidence: Evidence) -> str:
    several = evidence.results.several_trainings
    return "cases and trainings" if several else "cases alone, since each method has one training"


def _dataset(evidence: Evidence, name: str) -> Dataset:
    return next(dataset for dataset in evidence.data.datasets if dataset.name == name)


# Scores


def _dice(evidence: Evidence, _: str) -> Figure:
    return dice_figure(evidence.results, evidence.evaluation.summary)


def _dice_caption(evidence: Evidence, _: str) -> str:
    text = (
        f"The large marker is the mean, the line its 95 % interval over {_over_what(evidence)}; the faint points below "
        f"are the {evidence.results.case_noun}s. Dice: {CONVENTION_TEXTS[evidence.evaluation.settings.convention]}."
    )
    if evidence.evaluation.other_where_present.any():
        text += " Hollow marker: the mean over the cases that contain the ROI, where others count too."
    return text


def _false_voxels(evidence: Evidence, _: str) -> Figure:
    return false_voxel_figure(evidence.mistakes.false_voxels, evidence.results)


def _curved_datasets(evidence: Evidence) -> list[str]:
    return [each.name for each in evidence.data.datasets if _curves(evidence, each)]


def _curves(evidence: Evidence, dataset: Dataset) -> list[LabelCurve]:
    trainings = evidence.trainings
    return label_curves(dataset, trainings.methods, evidence.results, trainings.labelled_cases)


def _label_curve(evidence: Evidence, name: str) -> Figure:
    curves = _curves(evidence, _dataset(evidence, name))
    return label_curve_figure(curves, f"labelled cases of {name}", evidence.results.methods)


def _label_curve_caption(evidence: Evidence, name: str) -> str:
    return (
        f"Mean Dice of the ROIs that {name} labels, over all {evidence.results.case_noun}s, against the number of its "
        f"labelled cases in the training; {_how_curves_are_drawn(evidence)}"
    )


def _how_curves_are_drawn(evidence: Evidence) -> str:
    return (
        "along a line all else is equal, including the length of the training. Line: mean over trainings; band: 95 % "
        f"interval over {_over_what(evidence)}; faint: single trainings."
    )


def _overall_curves(evidence: Evidence) -> list[LabelCurve]:
    trainings = evidence.trainings
    return overall_label_curves(evidence.data.datasets, trainings.methods, evidence.results, trainings.labelled_cases)


def _labels_alone(evidence: Evidence, curves: Iterable[LabelCurve]) -> LabelCurve | None:
    """The first curve of a method that learns from labels alone, and not from a model besides."""
    methods = evidence.trainings.methods
    alone = (each for each in curves if methods[each.name].kind == "labels_alone" and not methods[each.name].start_from)
    return next(alone, None)


def _overall_curve(evidence: Evidence, _: str) -> Figure:
    curves = _overall_curves(evidence)
    alone = _labels_alone(evidence, curves)
    return label_curve_figure(curves, "labelled cases", evidence.results.methods, alone)


def _overall_curve_caption(evidence: Evidence, _: str) -> str:
    curves = _overall_curves(evidence)
    text = (
        f"Average of the ROIs' mean Dice over all {evidence.results.case_noun}s, against the number of labelled cases "
        f"in the training, summed over the data sets in which it varies; {_how_curves_are_drawn(evidence)}"
    )
    if any(len(curve.counts) == 1 for curve in curves):
        text += (
            " A marker without a line, drawn left of its number of cases, is a method that has no line; bar: interval."
        )
    if (alone := _labels_alone(evidence, curves)) is not None:
        spared = [
            f"{method_label(curve.name)} with {count} as {method_label(alone.name)} with about {cases:.0f}"
            for curve in curves
            if curve is not alone
            for count, cases in cases_spared(curve, alone).items()
        ]
        if spared:
            text += f" Dotted, equal means: {'; '.join(spared)}. Whether chance explains a difference: see the table."
    return text


# Training


def _losses(evidence: Evidence, _: str) -> Figure:
    terms = loss_terms(evidence.trainings.methods.values())
    return loss_figure(evidence.trainings.histories, evidence.results.methods, terms)


_LOSSES_CAPTION = (
    "Terms of the student's loss, before their weights; a term that a method does not have is not drawn. Faint: as "
    "logged; line: running mean, one for each training."
)


def _validation(evidence: Evidence, _: str) -> Figure:
    return validation_figure(evidence.trainings.histories, evidence.results.methods, evidence.results.rois)


def _deciding_methods(evidence: Evidence) -> list[str]:
    first = evidence.trainings.first
    return [method for method, history in first.items() if has_decisions(history, evidence.results.rois)]


def _decisions(evidence: Evidence, method: str) -> Figure:
    return decision_figure(evidence.trainings.first[method], evidence.results.rois, method)


def _decisions_caption(evidence: Evidence, _: str) -> str:
    return (
        "What each ROI was in the samples of the training: labelled by the data set; positive or negative latent, "
        f"where its existence score is above φ_h or below φ_l; ambiguous between the two.{evidence.which_training}"
    )


def _pseudo_labels(evidence: Evidence, _: str) -> Figure:
    assert evidence.trainings.pseudo_labels is not None
    return pseudo_label_figure(evidence.trainings.pseudo_labels, evidence.results.methods, evidence.results.rois)


# Existence


def _reliability(evidence: Evidence, _: str) -> Figure:
    assert evidence.existence.metrics is not None
    structures = dict.fromkeys(name for names in evidence.existence.structures for name in names)
    return reliability_figure(evidence.existence.metrics, tuple(structures))


def _reliability_caption(evidence: Evidence, _: str) -> str:
    assert evidence.existence.metrics is not None
    return (
        f"The ROI-aware network on {evidence.existence.metrics['patches']} patches of cases that were held out from "
        "its training, for the structures that decide whether a ROI exists."
    )


def _scored_pools(evidence: Evidence) -> Iterable[str]:
    scores, listed = evidence.existence.scores, evidence.data.cases
    return ALONE if scores is not None and scores["dataset"].isin(list(listed)).all() else ()


def _existence(evidence: Evidence, _: str) -> Figure:
    assert evidence.existence.scores is not None
    labelled = labelled_by_case(evidence.data.cases)
    thresholds = common_thresholds(evidence.trainings.methods.values())
    return existence_figure(evidence.existence.scores, evidence.results.rois, labelled, thresholds)


def _existence_caption(evidence: Evidence, _: str) -> str:
    text = "Existence scores of the pooled training patches, for each ROI over the cases that do not label it."
    if common_thresholds(evidence.trainings.methods.values()):
        text += " Scores between the thresholds φ_l and φ_h are ambiguous, those outside are latent."
    return text


def _check(evidence: Evidence, _: str) -> Figure:
    assert evidence.existence.check is not None
    return existence_check_figure(evidence.existence.check, evidence.results.rois)


def _check_caption(evidence: Evidence, _: str) -> str:
    assert evidence.existence.check is not None
    return existence_check_caption(evidence.existence.check)


# Data


def _labels(evidence: Evidence, _: str) -> Figure:
    return label_volume_figure(evidence.data.cases, evidence.data.datasets, evidence.results.rois)


_LABELS_CAPTION = (
    "Which data set labels which ROI: the median volume in ml over the cases that contain it, and below it how many of "
    "the labelled cases do. A dash: not labelled, so unknown."
)


FIGURES: tuple[FigureKind, ...] = (
    FigureKind("dice", SCORES, "Dice per ROI", lambda _: ALONE, _dice, _dice_caption),
    FigureKind(
        "confusion",
        SCORES,
        "Organ confusion",
        lambda evidence: ALONE if any_pair(evidence.mistakes.confusion) else (),
        lambda evidence, _: confusion_figure(evidence.mistakes.confusion, evidence.results),
        lambda evidence, _: confusion_caption(evidence.results),
    ),
    FigureKind(
        "false_voxels",
        SCORES,
        "Where false voxels lie",
        lambda _: ALONE,
        _false_voxels,
        lambda evidence, _: false_voxels_caption(evidence.results),
    ),
    FigureKind(
        "labelled_cases",
        SCORES,
        "What labelled cases are worth",
        lambda evidence: ALONE if _overall_curves(evidence) else (),
        _overall_curve,
        _overall_curve_caption,
    ),
    FigureKind(
        "labelled_cases", SCORES, "Labelled cases of {item}", _curved_datasets, _label_curve, _label_curve_caption
    ),
    FigureKind(
        "slices",
        SLICES,
        "All ROIs in one case of each data set",
        lambda evidence: ALONE if choose_median_cases(evidence.results) else (),
        overview_figure,
        overview_caption,
    ),
    FigureKind(
        "slices", SLICES, "{item}: median and worst case", rois_with_cases, roi_figure, roi_caption, folded=True
    ),
    FigureKind(
        "losses",
        TRAINING,
        "Training curves",
        lambda evidence: ALONE if evidence.trainings.histories else (),
        _losses,
        _LOSSES_CAPTION,
    ),
    FigureKind(
        "validation",
        TRAINING,
        "Validation Dice",
        lambda evidence: ALONE if validated(evidence.trainings.histories) else (),
        _validation,
        VALIDATION_CAPTION,
    ),
    FigureKind("decisions", TRAINING, "Decisions of {item}", _deciding_methods, _decisions, _decisions_caption),
    FigureKind(
        "pseudo_labels",
        TRAINING,
        "Pseudo labels",
        lambda evidence: _if_there(evidence.trainings.pseudo_labels),
        _pseudo_labels,
        PSEUDO_LABELS_CAPTION,
    ),
    FigureKind(
        "reliability",
        EXISTENCE,
        "The ROI-aware network",
        lambda evidence: _if_there(evidence.existence.metrics),
        _reliability,
        _reliability_caption,
    ),
    FigureKind("existence", EXISTENCE, "Existence scores", _scored_pools, _existence, _existence_caption),
    FigureKind(
        "existence_check",
        EXISTENCE,
        "Decisions about existence",
        lambda evidence: _if_there(evidence.existence.check),
        _check,
        _check_caption,
    ),
    FigureKind("labels", DATA, "Labels", lambda _: ALONE, _labels, _LABELS_CAPTION),
)
