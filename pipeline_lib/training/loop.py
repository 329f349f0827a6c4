"""The training loop, shared by the ROI-aware network and the segmentation networks.

Between two steps the whole state is what a checkpoint holds, and a step depends only on this state and on its own
number: a resumed run ends with bit-identical weights, or where `gradient_accumulation_steps: auto` then finds other
memory, with the same but for rounding.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch

from ..config.optimisation import Execution, Optimisation
from ..data.batches import ViewMaker
from ..data.crops import CropPlan
from ..data.reading import CropReader, Region, StopWhileWaiting, killed_worker, regions
from ..device import out_of_memory
from ..errors import UserError
from ..networks.precision import autocast_type, multiplies_bfloat16
from ..progress import Progress, say
from .checkpoints import Checkpoints
from .distributed import Distributed
from .early_warnings import OneKindOfDecision, StuckLoss, Watcher
from .history import History
from .machine_use import hardware, peak_memory_mib
from .silent_rois import SilentRois
from .snapshots import Snapshots
from .step import Stepper, StepReport
from .stopping import STOPPED, STOPPED_AS_REQUESTED, StopRequest, listening_for_stop
from .task import Task
from .validation import Validation

_SECONDS_FOR_OTHER_RANKS = 10.0
"""How long a rank that was asked to stop waits for its crops, because the other ranks need it to end the step."""


@dataclass(frozen=True)
class TrainingData:
    """What a training learns from: which crops, how they are read and how they become views."""

    plan: CropPlan
    reader: CropReader
    view_maker: ViewMaker


def train(
    task: Task,
    data: TrainingData,
    optimisation: Optimisation,
    execution: Execution,
    distributed: Distributed,
    checkpoints: Checkpoints,
    *,
    title: str,
    optimisation_key: str,
    execution_key: str,
    can_checkpoint: bool = True,
    divisible: bool = False,
    validation: Validation | None = None,
    snapshots: Snapshots | None = None,
) -> Path:
    """Train `task.networks` to the end, from the newest checkpoint if there is one; returns the history's path.

    All ranks call this. If a signal asks to stop, the state is saved and the exit code is 143. Messages call the
    training `title` and name the config's keys that hold `optimisation` and `execution`; `can_checkpoint` is whether
    its `gradient_checkpointing` may be `all`, `divisible` whether a batch in more parts differs by rounding only: it is
    divided when memory runs out. A `validation` that keeps the best networks puts them back in the end; `snapshots` are
    taken on the way.
    UserError: the batch is smaller than the number of ranks, the precision is not to be trusted on this CPU, too many
    steps are not finite, or memory runs out.
    """
    if optimisation.batch_size < distributed.world_size:
        raise UserError(
            f"{optimisation_key}.batch_size",
            f"is {optimisation.batch_size}, but {distributed.world_size} processes share it",
            "raise it or start fewer processes",
        )
    _refuse_wrong_gradients(execution, distributed, execution_key)
    steps = data.plan.steps
    stepper = Stepper(
        task, data.view_maker, optimisation, execution, distributed, steps=steps, title=title, divisible=divisible
    )
    history = History(checkpoints.folder / "history.jsonl", steps)
    with listening_for_stop() as stop:
        try:
            key = f"{optimisation_key}.learning_rate"
            _Loop(stepper, history, checkpoints, data, stop, key, validation, snapshots).run()
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not out_of_memory(error):
                if stop.arrived and distributed.world_size > 1:
                    # Another rank stopped while it waited for crops, and its connections are closed.
                    first_line = str(error).splitlines()[0] if str(error) else repr(error)
                    say(f"{title}: {STOPPED_AS_REQUESTED}, after: {first_line}")
                    raise SystemExit(STOPPED) from error
                raise killed_worker(error) or error from None
            alone = stepper.parts * distributed.world_size >= optimisation.batch_size
            remedies = [
                f"raise {execution_key}.gradient_accumulation_steps" if divisible and not alone else "",
                f"set {execution_key}.gradient_checkpointing to all"
                if can_checkpoint and execution.gradient_checkpointing != "all"
                else "",
                f"lower patches.size_voxels{'' if alone else f' or {optimisation_key}.batch_size'}",
            ]
            wrong = f"out of memory{' with one sample at a time' if alone else ''}"
            raise UserError(title, wrong, ", or ".join(filter(None, remedies))) from error
    return history.path


def _refuse_wrong_gradients(execution: Execution, distributed: Distributed, execution_key: str) -> None:
    """Refuse bfloat16 where oneDNN (at least 3.12) computes weights' gradients on small maps from unwritten memory.

    Seen on AVX-512 without AMX, for 3×3×3 kernels on maps of 16 voxels: the gradient is NaN or wrong at random.
    """
    device = distributed.device
    if autocast_type(execution.precision, device) != torch.bfloat16 or multiplies_bfloat16(device):
        return
    wrong = "is bfloat16, in which PyTorch gets gradients wrong on a CPU without AMX"
    raise UserError(f"{execution_key}.precision", wrong, "set it to auto or float32")


class _Loop:
    """Takes the steps one after another, and keeps checkpoints, history and progress."""

    def __init__(
        self,
        stepper: Stepper,
        history: History,
        checkpoints: Checkpoints,
        data: TrainingData,
        stop: StopRequest,
        learning_rate_key: str,
        validation: Validation | None,
        snapshots: Snapshots | None,
    ) -> None:
        self.stepper, self.history, self.checkpoints = stepper, history, checkpoints
        self.data, self.stop, self.title = data, stop, stepper.title
        self.distributed, self.execution = stepper.distributed, stepper.execution
        self.silent_rois = SilentRois(stepper.task.names, data.plan.steps)
        self.watchers: dict[str, Watcher] = {
            "silent_rois": self.silent_rois,
            "stuck_loss": StuckLoss(data.plan.steps, learning_rate_key),
            "one_kind_of_decision": OneKindOfDecision(),
        }
        self.validation, self.snapshots = validation, snapshots
        self.step = 0

    def run(self) -> None:
        self.resume()
        self.validate()
        steps = self.data.plan.steps
        progress = Progress(self.title, steps, "step", done=self.step) if self.distributed.is_main else None
        with closing(self.batches()) as batches:
            self.take_steps(batches, progress)
        self.save()
        best = self.validation.restore_best() if self.validation is not None else None
        if best is not None and self.distributed.is_main:
            say(f"{self.title}: keeps the networks of step {best}, whose validation Dice was best")

    def take_steps(self, batches: Iterator[list[Region]], progress: Progress | None) -> None:
        """All remaining steps, with a checkpoint now and then."""
        steps = self.data.plan.steps
        saved_at, first = time.monotonic(), True
        while self.step < steps:
            started = time.monotonic()
            try:
                batch = next(batches)
            except StopWhileWaiting:
                self.end_early()
            waited = time.monotonic() - started
            if first and self.stepper.divisible and self.distributed.world_size > 1:
                self.stepper.agree_on_parts(self.step, batch)
            first = False
            report = self.stepper.train_step(self.step, batch, self.stop.arrived)
            self.step += 1
            self.note(report, waited, time.monotonic() - started)
            if self.snapshots is not None and self.distributed.is_main:
                self.snapshots.take(self.step)
            if progress is not None:
                progress.advance(note=f"loss {report.values['loss/total']:.4f}" if report.applied else "skipped")
            if report.stop and self.step < steps:
                self.end_early()
            self.validate()
            if time.monotonic() - saved_at >= 60 * self.execution.checkpoint_minutes:
                self.save()
                saved_at = time.monotonic()

    def end_early(self) -> NoReturn:
        self.save()
        if self.distributed.is_main:
            say(f"{self.title}: {STOPPED_AS_REQUESTED} after step {self.step}; run it again to resume")
        raise SystemExit(STOPPED)

    def validate(self) -> None:
        """Predict the held-out cases, if that is due; obeys a stop, after which the resumed training does it."""
        if self.validation is None or not self.validation.is_due(self.step):
            return
        found = self.validation.run(self.step, self.distributed, self.stop)
        if found is None:
            self.end_early()
        if not self.distributed.is_main:
            return
        self.history.release(found.entries)
        if found.entries:
            mean = "no labelled case" if found.mean is None else f"mean Dice {found.mean:.4f}"
            say(f"{self.title}, step {self.step}: validation: {mean}")
        for warning in found.warnings:
            say(f"warning: {self.title}, step {self.step}: {warning}")

    def batches(self) -> Generator[list[Region], None, None]:
        """This rank's share of each batch, from the present step on."""
        plan, mine = self.data.plan, (self.distributed.rank, self.distributed.world_size)
        patience = _SECONDS_FOR_OTHER_RANKS if self.distributed.world_size > 1 else 0.0
        stream = regions(
            self.data.reader,
            self.step,
            *mine,
            num_workers=self.execution.num_workers,
            pinned=self.distributed.device.type == "cuda",
            stop_asked=lambda: self.stop.arrived_before(patience),
        )
        with closing(stream):
            for step in range(self.step, plan.steps):
                yield [next(stream) for _ in plan.samples(step, *mine)]

    def note(self, report: StepReport, waited: float, seconds: float) -> None:
        """Add the step to the history, which rank 0 keeps, and warn of what goes wrong."""
        if not self.distributed.is_main:
            return
        batch_size = self.stepper.optimisation.batch_size
        values = report.values if report.applied else {}
        for watcher in self.watchers.values():
            for warning in watcher.note(self.step, values, batch_size):
                say(f"warning: {self.title}, step {self.step}: {warning}")
        latest = {
            "epoch": self.step * batch_size / self.data.plan.epoch_size,
            "learning_rate": self.stepper.optimiser.param_groups[0]["lr"],
            "skipped_steps": self.stepper.skipped,
            "samples_per_second": batch_size / seconds,
            "peak_memory_mib": peak_memory_mib(self.distributed.device),
            "hardware": f"{self.distributed.world_size} × {hardware(self.distributed.device)}",
        }
        if self.silent_rois.silent:
            latest["not_learned"] = " ".join(self.silent_rois.silent)
        means = {"seconds_per_step": seconds, "seconds_waiting": waited}
        held = self.validation is not None and self.validation.is_due(self.step)
        self.history.add(self.step, {**values, **means}, latest, held)

    def save(self) -> None:
        """Write a checkpoint; rank 0 does, because all hold the same state."""
        if self.distributed.is_main and self.history.flush(durably=True):
            state = {
                "step": self.step,
                "history": self.history.state_dict(),
                **{name: watcher.state_dict() for name, watcher in self.watchers.items()},
                **self.stepper.state_dict(),
            }
            if self.validation is not None:
                state["validation"] = self.validation.state_dict()
            self.checkpoints.save(self.step, state)

    def resume(self) -> None:
        """Resume from the newest checkpoint, if there is one. UserError: the ranks do not all see the same one."""
        state = self.checkpoints.newest()
        steps = self.distributed.all_gather(0 if state is None else state["step"])
        if len(set(steps)) > 1:
            raise UserError(
                str(self.checkpoints.folder),
                f"holds checkpoints of steps {', '.join(map(str, steps))} as seen by ranks 0, 1, …",
                "keep the working directory on a file system that all nodes share",
            )
        if state is None:
            return
        self.step = state["step"]
        if self.snapshots is not None:
            self.snapshots.check(self.step)
        self.stepper.load_state_dict(state)
        self.history.load_state_dict(state["history"])
        for name, watcher in self.watchers.items():
            # A checkpoint of an earlier version does not know every watcher.
            if name in state:
                watcher.load_state_dict(state[name])
        if self.validation is not None:
            self.validation.load_state_dict(state["validation"])
        if self.distributed.is_main:
            say(f"{self.title}: resuming after step {self.step}")
