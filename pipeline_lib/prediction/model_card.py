"""What somebody who is given a model must know: what it was trained on, how well it did, and what nobody has tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.confidence import Calibration, CalibrationCases
from ..config.evaluation import Prediction
from ..config.runs import read_run
from ..config.volumes import Patches
from ..errors import UserError
from ..networks.model_description import method_in_words
from ..reporting.results import read_results, roi_label
from ..reporting.statistics import summary_table

_CALIBRATED_ON: dict[CalibrationCases, str] = {
    "held-out": "training cases that were held out",
    "out-of-fold": "the training cases that its fold held out, so their scores do not show how well it does",
    "test": "the test cases, so their scores do not show how well it does",
}
_NOT_SAID = "not known: give `--configfile`"


@dataclass(frozen=True)
class TrainingData:
    """A data set that a model learned from: its licence, number of training cases, and the ROIs that it labels."""

    name: str
    licence: str
    cases: int
    rois: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredDice:
    """Mean over the scored cases that have a Dice, with the ends of its 95 % interval (NaN: too few cases for one)."""

    mean: float
    low: float
    high: float
    cases: int

    def __str__(self) -> str:
        return f"{_percent(self.mean)} ({_percent(self.low)} to {_percent(self.high)}; {self.cases})"


def model_card(
    description: Mapping[str, Any],
    prediction: Prediction,
    calibration: Calibration | None,
    data: Sequence[TrainingData],
    dice: Mapping[str, MeasuredDice],
    version: str,
) -> str:
    """Markdown. `dice` is what was measured of each ROI; the card says of the others that nothing was."""
    rois = description["rois"]
    labelled = {roi: sum(part.cases for part in data if roi in part.rois) for roi in rois}
    run = description.get("run", "a model")
    lines = [
        f"# {run}",
        "",
        f"Segments {len(rois)} regions of interest (ROIs) in CT, made with Lacuna {version}. "
        "It is a research model and not a medical device: do not base a diagnosis or a treatment on it.",
        "",
        f"| ROI | labelled training cases | Dice on {_scored_on(run)}, % (95 % interval; cases) |",
        "|---|---|---|",
        *(
            f"| {roi_label(roi)} | {labelled[roi] if data else 'not known'} | {dice.get(roi, 'not measured')} |"
            for roi in rois
        ),
        "",
        "## Training data",
        "",
        *(_data_lines(data) if data else [_NOT_SAID]),
        "",
        "## How it was trained",
        "",
        f"- method: {method_in_words(description['method'])}; network: {description['network']['kind']}; "
        f"seed {description.get('seed', 'not known')}",
        f"- patches of {_product(Patches.model_validate(description['patches']).size_voxels)} voxels of "
        f"{_product(description['spacing_mm'])} mm (x, y, z)",
        "- intensities from {:g} to {:g} HU; what lies beyond is clipped".format(*description["window_hu"]),
        "",
        "## How it predicts",
        "",
        f"- {prediction.weights} network, windows that overlap by {prediction.overlap:g}"
        f"{', averaged over flips' if prediction.flip_tta else ''}",
        f"- post-processing: {_listed(prediction.post_processing) or 'none'}",
        "- ROIs may overlap: a tumour lies in its organ",
        f"- expected Dice: {_calibrated(calibration)}",
        "",
        "## What was not tested",
        "",
        *_untested(rois, dice, labelled if data else {}),
    ]
    return "\n".join(lines) + "\n"


def _data_lines(data: Sequence[TrainingData]) -> list[str]:
    rows = [
        f"| {part.name} | {part.cases} | {', '.join(map(roi_label, part.rois)) or 'no labels'} | {part.licence} |"
        for part in data
    ]
    return [
        "What a data set does not label was unknown in training, not background. A licence may restrict what the model "
        "may be used for.",
        "",
        "| data set | training cases | labels | licence |",
        "|---|---|---|---|",
        *rows,
    ]


def measured_dice(description: Mapping[str, Any], scores: Path) -> dict[str, MeasuredDice]:
    """ROI → its mean Dice in `scores`, the run's results/scores/RUN.csv, for those that have one.

    Raises UserError if the scores are not those of the model's run.
    """
    run, seed = description.get("run", ""), description.get("seed", 0)
    if not scores.is_file():
        raise UserError(str(scores), "is missing", f"make it with `snakemake results/scores/{run}.csv --cores all`")
    try:
        table = summary_table(read_results([scores], [(run, run, seed)], description["rois"]))
    except (KeyError, ValueError) as error:
        wrong = f"is not a table of scores as the pipeline writes it ({error})"
        raise UserError(str(scores), wrong, "give results/scores/RUN.csv") from error
    return {
        row["roi"]: MeasuredDice(row["dice_mean"], row["dice_low"], row["dice_high"], row["dice_cases"])
        for row in table.to_dict("records")
        if row["dice_cases"] > 0
    }


def _scored_on(run: str) -> str:
    """Which cases results/scores/RUN.csv has."""
    known = read_run(run)
    return "test cases" if known is None or known.fold is None else "cases that its fold held out"


def _calibrated(calibration: Calibration | None) -> str:
    if calibration is None:
        return "not calibrated, so none is given"
    return f"fitted on {calibration.masks} masks of {_CALIBRATED_ON[calibration.cases]}"


def _untested(rois: Sequence[str], dice: Mapping[str, MeasuredDice], labelled: Mapping[str, int]) -> list[str]:
    lines = []
    if unmeasured := [roi for roi in rois if roi not in dice]:
        lines.append(f"- how well it finds {', '.join(map(roi_label, unmeasured))}: no score was given for this card")
    if unlabelled := [roi for roi in rois if labelled and not labelled[roi]]:
        lines.append(f"- {', '.join(map(roi_label, unlabelled))}: no training case labels it")
    return [
        *lines,
        "- CTs from scanners, protocols and patients other than those of the data sets above",
        "- children, implants, and anatomy after surgery, unless the data sets hold them",
        "- images that are not in HU, such as MR",
    ]


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def _listed(post_processing: Mapping[str, str]) -> str:
    return ", ".join(f"{roi_label(roi)}: {what.replace('_', ' ')}" for roi, what in post_processing.items())


def _product(sides: Sequence[float]) -> str:
    return "×".join(f"{side:g}" for side in sides)
