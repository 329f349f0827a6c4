"""Two processes that train together, as the project's own launcher starts them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from .machine import patience
from .rows import Row, absent, failed, judged

_COUNT, _MOST_SECONDS = 2, 90.0
_MOST_ERROR = 1e-4


def check_processes(device: torch.device) -> Iterator[Row]:
    """nccl where there are two GPUs, else gloo on the processor."""
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus < _COUNT:
        yield absent("two processes, nccl", f"{gpus} GPUs")
    backend, kind = ("nccl", "cuda") if gpus >= _COUNT else ("gloo", "cpu")
    title = f"two processes, {backend}"
    try:
        yield judged_ranks(title, outcome_of_ranks(kind))
    except Exception as error:
        yield failed(title, error)


def outcome_of_ranks(kind: str) -> dict:
    """What rank 0 wrote. RuntimeError: too slow, or the last line of what was said by a process that failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        launcher = [sys.executable, "-m", "pipeline_lib.tools.launch", "--gpus", str(_COUNT)]
        command = [*launcher, "pipeline_lib.selftest.ranks", "--device", kind, "--out", str(out)]
        most = _MOST_SECONDS * patience()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=most, check=False)
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"took more than {most:.0f} s") from error
        if done.returncode or not out.exists():
            said = done.stderr.strip().splitlines() or ["nothing was said"]
            raise RuntimeError(f"ended with {done.returncode}: {said[-1]}")
        return json.loads(out.read_text(encoding="utf-8"))


def judged_ranks(title: str, found: dict) -> Row:
    """Whether both took part and their gradient is that of one process."""
    right = found["ranks"] == list(range(_COUNT)) and found["error"] <= _MOST_ERROR
    return judged(title, right, f"ranks {found['ranks']}, gradient off by {found['error']:.1e} of the largest value")
