"""What growing.py and rows.py share: averages of a training, and differences as docs/evidence.md writes them."""

from __future__ import annotations

from pipeline_lib.reporting.cells import percent
from pipeline_lib.reporting.intervals import Difference
from pipeline_lib.reporting.results import Results


def average_by_seed(results: Results, method: str) -> dict[int, float]:
    """Mean Dice over ROIs, in %, of each training of a method."""
    return {int(str(seed)): 100 * float(value) for seed, value in results.average_by_seed(method).items()}


def written(found: Difference) -> str:
    """A difference in percentage points and its 95 % interval."""
    mean, low, high = (percent(value, signed=True) for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"
