"""What a run is about to train although it was trained before, in a line each, before anything starts.

Whether a training is repeated or restored depends on the content of its inputs, which the run may still have to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..files import read_json_lines
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
    try:
        rows = read_json_lines(history)
        steps = [0, *(row["step"] for row in rows)]
        seconds = sum(
            (step - before) * row["seconds_per_step"]
            for before, step, row in zip(steps[:-1], steps[1:], rows, strict=True)
        )
    except (UserError, KeyError, TypeError):
        return ""
    return f", which took {clock(seconds)} the last time"
