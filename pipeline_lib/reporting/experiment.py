"""What was run, in a few lines for the first screen of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config.datasets import Dataset, PhantomSource
from ..config.training_setup import TrainingSetup
from .evidence import Evidence


def facts(evidence: Evidence, setup: TrainingSetup, config: Sequence[Path], commit: str) -> list[tuple[str, str]]:
    """Term and text of each line: the config's files, data, training, networks and code."""
    results = evidence.results
    cases = results.scores[["dataset", "case"]].drop_duplicates()
    counted = cases["dataset"].value_counts()
    trained = [
        _cases_of(
            dataset,
            "scored out of fold" if results.out_of_fold else f"{counted.get(dataset.name, 0)} test",
            setup.held_out.get(dataset.name, 0),
        )
        for dataset in evidence.data.datasets
    ]
    patch, spacing = _product(setup.patch_voxels), _product(setup.spacing_mm)
    lines = [
        ("config", ", ".join(path.name for path in config)),
        ("cases", ", ".join(trained)),
        (
            "folds",
            "" if setup.folds is None else f"{setup.folds}, by patient; each training leaves one out",
        ),
        (
            "training",
            f"{length(evidence)}batches of {setup.batch_size} patches of {patch} voxels at {spacing} mm".capitalize(),
        ),
        ("networks", "; ".join(f"{name}: {size}" for name, size in setup.networks.items())),
        ("code", commit),
    ]
    return [(term, text) for term, text in lines if text]


def notice(evidence: Evidence) -> str:
    """That the images are phantoms, where all scored ones are; empty otherwise."""
    scored = set(evidence.results.scores["dataset"])
    if not all(_is_phantom(dataset) for dataset in evidence.data.datasets if dataset.name in scored):
        return ""
    steps = _range(history["step"].max() for _, history in evidence.trainings.histories.values())
    images = f"Embedded phantoms, {_counted(steps, 'step')}" if steps else "Embedded phantoms"
    return (
        f"{images}: a demonstration, not a result. The images are synthetic; no score here says how well a method "
        "segments patients."
    )


def length(evidence: Evidence) -> str:
    """How long the trainings were by their histories, as "56 epochs, 672 steps, "; empty without histories."""
    histories = [history for _, history in evidence.trainings.histories.values()]
    if not histories:
        return ""
    epochs = _range(round(history["epoch"].max()) for history in histories)
    steps = _range(history["step"].max() for history in histories)
    return f"{_counted(epochs, 'epoch')}, {_counted(steps, 'step')}, "


def _cases_of(dataset: Dataset, scored: str, held_out: int) -> str:
    if dataset.has_no_labels:
        # Not all of them train: a patient may be held out or tested with a case of another data set.
        return f"{dataset.name} ({len(dataset.used_cases)} cases, no labels)"
    training = len(dataset.split_cases("train")) - held_out
    if not dataset.labels:
        return f"{dataset.name} ({training} for the ROI-aware network)"
    validated = f"{held_out} held out, " if held_out else ""
    return f"{dataset.name} ({training} training, {validated}{scored})"


def _counted(number: str, noun: str) -> str:
    return f"{number} {noun}" if number == "1" else f"{number} {noun}s"


def _is_phantom(dataset: Dataset) -> bool:
    return isinstance(dataset.source, PhantomSource)


def _range(numbers: Iterable[int]) -> str:
    """The number that all have, or the lowest and the highest; empty for none."""
    ordered = sorted(int(number) for number in numbers)
    if not ordered:
        return ""
    return f"{ordered[0]:,}" if ordered[0] == ordered[-1] else f"{ordered[0]:,} to {ordered[-1]:,}"


def _product(sides: Sequence[float]) -> str:
    return " × ".join(f"{side:g}" for side in sides)
