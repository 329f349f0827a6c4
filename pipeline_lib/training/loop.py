"""The training loop: one for the ROI-aware network and the segmentation networks.

Between two steps the whole state is a checkpoint's worth of numbers, and what a step does depends on these and on its
own number alone: whoever goes on from a checkpoint ends with the same weights as a run that never stopped.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from ..config.optimisation import Execution, Optimisation
from ..data.batches import Views
from ..data.crops import CropPlan
from ..data.reading import CropReader, Region, regions
from ..errors import UserError
from ..machine import processor
from ..networks.precision import autocast_type, multiplies_bfloat16
from ..progress import Progress, say
from .checkpoints import Checkpoints
from .distributed import Processes
from .history import History
from .step import Stepper, StepReport
from .stopping import STOPPED, StopRequest, listening_for_stop
from .task import Task


@dataclass(frozen=True)
class Material:
    """What a training learns from: its crops, how they are read and how they become views."""

    plan: CropPlan
    reader: CropReader
    views: Views


@dataclass(frozen=True)
class Names:
    """What messages call a training, and the sections of the config that say how it learns and how it runs.

    `recomputes` is whether its `gradient_checkpointing` may be `all`.
    """

    title: str
    optimisation: str
    execution: str
    recomputes: bool = True


def train(
    task: Task,
    material: Material,
    optimisation: Optimisation,
    execution: Execution,
    processes: Processes,
    checkpoints: Checkpoints,
    names: Names,
) -> Path:
    """Train `task.networks` to the end, from the newest checkpoint if there is one; returns the history's path.

    All processes call this. If a signal asks to stop, the state is saved and the exit code is 143. UserError: the
    batch is smaller than the number of processes, the precision is not to be trusted on this CPU, too many steps are
    non-finite, or memory runs out.
    """
    if optimisation.batch < processes.count:
        raise UserError(
            f"{names.optimisation}.batch",
            f"is {optimisation.batch}, and {processes.count} processes share it",
            "raise it or start fewer processes",
        )
    _refuse_wrong_gradients(execution, processes, names)
    steps = material.plan.steps
    stepper = Stepper(task, material.views, optimisation, execution, processes, steps, names.title)
    history = History(checkpoints.folder / "history.jsonl", steps)
    try:
        with listening_for_stop() as stop:
            _Loop(stepper, history, checkpoints, material, names.title).run(stop)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
            raise
        recompute = names.recomputes and execution.gradient_checkpointing != "all"
        raise UserError(
            names.title,
            "out of memory",
            f"raise {names.execution}.accumulation, "
            + (f"set {names.execution}.gradient_checkpointing to all, " if recompute else "")
            + f"or lower {names.optimisation}.batch or patches.size_voxels",
        ) from error
    return history.path


def _refuse_wrong_gradients(execution: Execution, processes: Processes, names: Names) -> None:
    """Refuse bfloat16 where oneDNN (3.12 at least) takes weights' gradients on small maps from memory it never wrote.

    Seen on AVX-512 without AMX, for 3×3×3 kernels on maps of 16 voxels: the gradient is NaN or wrong at random.
    """
    if autocast_type(execution.precision, processes.device) != torch.bfloat16 or multiplies_bfloat16(processes.device):
        return
    wrong = "is bfloat16, in which PyTorch gets gradients wrong on a CPU without AMX"
    raise UserError(f"{names.execution}.precision", wrong, "set it to auto or float32")


class _Loop:
    """Steps one after the other, with checkpoints, history and progress."""

    def __init__(
        self, stepper: Stepper, history: History, checkpoints: Checkpoints, material: Material, title: str
    ) -> None:
        self.stepper, self.history, self.checkpoints = stepper, history, checkpoints
        self.material, self.title = material, title
        self.processes, self.execution = stepper.processes, stepper.execution
        self.step = 0

    def run(self, stop: StopRequest) -> None:
        self.resume()
        steps = self.material.plan.steps
        progress = Progress(self.title, steps, "step", done=self.step) if self.processes.first else None
        with closing(self.batches()) as batches:
            self.take_steps(batches, progress, stop)
        self.save()

    def take_steps(self, batches: Iterator[list[Region]], progress: Progress | None, stop: StopRequest) -> None:
        """All steps that are left, with a checkpoint now and then."""
        steps = self.material.plan.steps
        saved_at = time.monotonic()
        while self.step < steps:
            started = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - started
            report = self.stepper.take(self.step, batch, stop.arrived)
            self.step += 1
            self.note(report, waited, time.monotonic() - started)
            if progress is not None:
                progress.advance(note=f"loss {report.values['loss/total']:.4f}" if report.applied else "skipped")
            if report.stop and self.step < steps:
                self.stop()
            if time.monotonic() - saved_at >= 60 * self.execution.checkpoint_minutes:
                self.save()
                saved_at = time.monotonic()

    def stop(self) -> NoReturn:
        self.save()
        if self.processes.first:
            say(f"{self.title}: stopped as asked after step {self.step}; run it again to go on")
        raise SystemExit(STOPPED)

    def batches(self) -> Generator[list[Region], None, None]:
        """This process's share of each batch, from the present step on."""
        plan, mine = self.material.plan, (self.processes.number, self.processes.count)
        pinned = self.processes.device.type == "cuda"
        stream = regions(self.material.reader, self.step, *mine, self.execution.data_workers, pinned)
        with closing(stream):
            for step in range(self.step, plan.steps):
                yield [next(stream) for _ in plan.samples(step, *mine)]

    def note(self, report: StepReport, waited: float, seconds: float) -> None:
        """Add the step to the history, which the first process keeps."""
        if not self.processes.first:
            return
        batch = self.stepper.optimisation.batch
        latest = {
            "epoch": self.step * batch / self.material.plan.cases,
            "learning_rate": self.stepper.optimiser.param_groups[0]["lr"],
            "skipped_steps": self.stepper.skipped,
            "samples_per_second": batch / seconds,
            "peak_memory_mib": _peak_memory_mib(self.processes.device),
            "hardware": f"{self.processes.count} × {_hardware(self.processes.device)}",
        }
        means = {"seconds_per_step": seconds, "seconds_waiting": waited}
        self.history.add(self.step, {**(report.values if report.applied else {}), **means}, latest)

    def save(self) -> None:
        """Write a checkpoint; one process does, because all hold the same state."""
        if self.processes.first and self.history.flush(durably=True):
            state = {"step": self.step, "history": self.history.state_dict(), **self.stepper.state_dict()}
            self.checkpoints.save(self.step, state)

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one. UserError: not all processes see the same one."""
        state = self.checkpoints.newest()
        steps = self.processes.gathered(0 if state is None else state["step"])
        if len(set(steps)) > 1:
            raise UserError(
                str(self.checkpoints.folder),
                f"holds checkpoints of steps {', '.join(map(str, steps))} as seen by the processes in turn",
                "keep the working directory on a file system that all nodes share",
            )
        if state is None:
            return
        self.step = state["step"]
        self.stepper.load_state_dict(state)
        self.history.load_state_dict(state["history"])
        if self.processes.first:
            say(f"{self.title}: going on after step {self.step}")


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _hardware(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def _peak_memory_mib(device: torch.device) -> float:
    """Most memory used so far: the GPU's where there is one, else this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
