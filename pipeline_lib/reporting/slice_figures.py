"""The figures of slices: the median case of each data set, and the median and the worst case of a ROI."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from .evidence import Evidence
from .overview import choose_median_cases, overview_panel
from .panels import Choice, choose_cases, roi_panel
from .results import roi_label
from .windows import window_of


def overview_figure(evidence: Evidence, _: str) -> Figure:
    slices = evidence.slices
    return overview_panel([slices.scans[case] for case in choose_median_cases(evidence.results)], slices.runs)


def overview_caption(evidence: Evidence, _: str) -> str:
    return (
        f"The median {evidence.results.case_noun} of each data set by Dice, averaged over ROIs and methods: the truth "
        "beside the prediction of each method, all ROIs at once. A ROI whose truth is unknown is not drawn in the "
        "truth. The slices are those that cut the most ROIs. R, L: the patient's right and left."
        f"{evidence.which_training}"
    )


def rois_with_cases(evidence: Evidence) -> list[str]:
    return [roi for roi in evidence.results.rois if choose_cases(evidence.results, roi, evidence.slices.runs)]


def roi_figure(evidence: Evidence, roi: str) -> Figure:
    slices = evidence.slices
    return roi_panel(roi, choose_cases(evidence.results, roi, slices.runs), slices.scans, slices.runs)


def roi_caption(evidence: Evidence, roi: str) -> str:
    choices = choose_cases(evidence.results, roi, evidence.slices.runs)
    cases = "; ".join(f"{choice.rank}: {choice.dataset}/{choice.case}" for choice in choices)
    return (
        f"The median and the worst {evidence.results.case_noun} by the Dice of {roi_label(roi)}, averaged over the "
        f"methods, among the cases that contain it ({cases}). The slice is the one in which the truth is largest. "
        "White: truth; colour: the method's prediction, with its Dice. R, L: the patient's right and left."
        f"{_clipping(evidence, choices, roi)}{evidence.which_training}"
    )


def _clipping(evidence: Evidence, choices: Sequence[Choice], roi: str) -> str:
    """A sentence where volumes do not contain the whole window of the ROI, or a part of it coarsely; else empty."""
    volumes = [evidence.slices.scans[choice.dataset, choice.case].volume for choice in choices]
    shown = [(volume.record.window_hu, window_of(roi, volume.pictured_hu)) for volume in volumes]
    if cut := sorted(stored for stored, window in shown if window.clipped):
        low, high = cut[0]
        limits = f"{low:g} to {high:g} HU".replace("-", "−")
        darker = "anything darker is black, as the lungs are, anything brighter white"
        return f" The volumes are clipped at {limits}: {darker}."
    if coarse := sorted(low for (low, _), window in shown if window.low < low):
        low_end = f"{coarse[0]:g} HU".replace("-", "−")
        return f" The volumes end at {low_end}; what is darker, lungs and air, is drawn at half their resolution."
    return ""
