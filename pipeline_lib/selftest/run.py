"""All checks, one after the other: a fault in one does not hide the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch

from ..progress import say
from .kernels import check_kernels
from .machine import described
from .prediction import check_prediction
from .processes import check_processes
from .rows import Row, failed, table
from .training import check_resuming, check_steps

Check = Callable[[torch.device], Iterator[Row]]
CHECKS: dict[str, Check] = {
    "kernels against their references": check_kernels,
    "training steps": check_steps,
    "two processes": check_processes,
    "a checkpoint": check_resuming,
    "a prediction": check_prediction,
}


def selftest(device: torch.device) -> int:
    """Print what the machine is and a table of all checks; 1 if one failed, else 0."""
    began = time.monotonic()
    print("\n".join(described()), flush=True)
    rows: list[Row] = []
    for title, check in CHECKS.items():
        say(f"checking {title}")
        try:
            rows += check(device)
        except Exception as error:
            rows.append(failed(title, error))
    print(f"\n{table(rows)}\n")
    wrong = [row.what for row in rows if row.outcome == "FAILED"]
    seconds = time.monotonic() - began
    print(f"{len(rows)} checks in {seconds:.0f} s: {len(wrong)} failed{': ' if wrong else ''}{', '.join(wrong)}")
    return 1 if wrong else 0
