"""What a run is about to train although it was trained before, in a line each, before anything starts.

Whether a training is repeated or restored depends on the content of its inputs, which the run may still have to make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..progress import clock

_MOST_LINES = 6


@dataclass(frozen=True)
class PlannedTraining:
    """A job of stage `stage` that makes `model`, and Snakemake's words for why."""

    stage: str
    model: Path
    reason: str

    @property
    def title(self) -> str:
        return f"train {self.model.parent.name}" if self.stage == "train" else self.stage


def retraining_notes(trainings: Iterable[PlannedTraining]) -> Iterator[str]:
    """A line for each of `trainings` whose model is there: why it is planned, and how long it took the last time."""
    again = [training for training in trainings if training.model.is_file()]
    for training in again[:_MOST_LINES]:
        causes = "; ".join(part.partition(":")[0].strip().lower() for part in training.reason.split("; "))
        yield (
            f"note: {training.title} is planned again ({causes}): restored from models/ in seconds if nothing that it "
            f"learns from has changed, else trained again{_last_time(training.model.with_name('history.jsonl'))}"
        )
    if len(again) > _MOST_LINES:
        yield f"note: and {len(again) - _MOST_LINES} more trainings likewise"


def _last_time(history: Path) -> str:
    """The time of a finished training, from its rows, which cover equally many steps; nothing if it is not known."""
    # Parsing some 2000 rows as JSON takes thirty times as long.
    text = history.read_text(encoding="utf-8", errors="replace") if history.is_file() else ""
    steps, seconds = (re.findall(rf'"{key}": ([0-9.e+-]+)', text) for key in ("step", "seconds_per_step"))
    if not steps or len(steps) != len(seconds):
        return ""
    mean = sum(map(float, seconds)) / len(seconds)
    return f", which took {clock(float(steps[-1]) * mean)} the last time"
