"""A training of a few milliseconds per step through the real loop: tiny volumes, a two-layer network, its teacher."""

import json
import multiprocessing
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # Every optimiser imports it, which takes seconds: forked processes find it here.
from torch import nn

from pipeline_lib.config.augmentation import Augmentation
from pipeline_lib.config.method_settings import Teacher
from pipeline_lib.config.optimisation import Execution, Optimisation
from pipeline_lib.config.volumes import Patches
from pipeline_lib.data.batches import ViewMaker
from pipeline_lib.data.crops import CropPlan, TrainingCase
from pipeline_lib.data.pool import pool_positions
from pipeline_lib.data.reading import CropReader
from pipeline_lib.inference.sliding_window import SlidingWindow
from pipeline_lib.methods.latent_class.settings import LatentClass
from pipeline_lib.methods.latent_class.task import LatentClassTask
from pipeline_lib.training.checkpoints import Checkpoints
from pipeline_lib.training.distributed import init_distributed
from pipeline_lib.training.loop import TrainingData, train
from pipeline_lib.training.snapshots import Snapshots
from pipeline_lib.training.validation import Validation
from tests.support.synthetic import WINDOW, write_case

ROIS = ("liver", "liver_tumor", "spleen", "pancreas")
LABELLED = (("liver", "liver_tumor"), ("spleen",), ("liver",), ("pancreas", "spleen"), ("spleen",))
PATCH = (16, 12, 16)
METHOD = LatentClass(kind="latent_class", network="tiny", encoder="none", rampup_fraction=0.3)
AUGMENTATION = Augmentation()


def write_cases(folder: Path) -> tuple[TrainingCase, ...]:
    """Five cases that label different ROIs, with pools and existence scores of all three kinds."""
    cases = []
    for number, labelled in enumerate(LABELLED):
        name = f"case_{number}"
        record = write_case(folder, "tiny", name, ROIS, labelled, shape=(20, 24, 28))
        pool = pool_positions(record, Patches(size_voxels=(64, 32, 32), pool_size=6), 0) % 9
        scores = np.random.default_rng(number).uniform(0, 1, (len(pool), len(ROIS))).astype(np.float32)
        cases.append(TrainingCase("tiny", name, folder / name, np.isin(ROIS, labelled), pool, scores))
    return tuple(cases)


class TinyNetwork(nn.Module):
    """Two convolutions: enough to have weights that every voxel's value reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, len(ROIS), 3, padding=1))

    def forward(self, image):
        return self.layers(image)


@dataclass(frozen=True)
class Tiny:
    """What can be changed about the training."""

    cases: tuple[TrainingCase, ...]
    work: Path
    epochs: int = 8
    batch_size: int = 4
    seed: int = 0
    method: LatentClass = METHOD
    gradient_accumulation_steps: int = 1
    num_workers: int = 0
    checkpoint_minutes: float = 1e-9
    nonfinite_limit: int = 2
    precision: str = "float32"
    held_out: tuple[TrainingCase, ...] = ()
    keep_best: bool = False
    max_time_share: float = 1.0
    snapshots: tuple[float, ...] = ()

    @property
    def execution(self) -> Execution:
        return Execution(
            device="cpu",
            precision=self.precision,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            num_workers=self.num_workers,
            checkpoint_minutes=self.checkpoint_minutes,
            nonfinite_limit=self.nonfinite_limit,
        )

    @property
    def optimisation(self) -> Optimisation:
        return Optimisation(epochs=self.epochs, batch_size=self.batch_size, learning_rate=1e-2, warmup_epochs=1)

    @property
    def plan(self) -> CropPlan:
        return CropPlan.from_cases(self.cases, self.optimisation, self.seed)

    def task(self) -> LatentClassTask:
        torch.manual_seed(self.seed)
        return LatentClassTask(
            student=TinyNetwork(),
            names=ROIS,
            settings=self.method,
            teacher=Teacher(decay=0.9),
            structures=tuple((roi,) for roi in ROIS),
            scorer=None,
        )

    def view_maker(self) -> ViewMaker:
        return ViewMaker(AUGMENTATION.strong, PATCH, WINDOW, self.seed, torch.device("cpu"))

    def reader(self) -> CropReader:
        return CropReader(self.cases, self.plan, PATCH, AUGMENTATION.weak)

    def validation(self, task: LatentClassTask) -> Validation | None:
        """After every second epoch, if cases are held out."""
        if not self.held_out:
            return None
        window = SlidingWindow(PATCH, 0.0, 2, False, WINDOW, torch.device("cpu"), torch.float32)
        networks = task.predictors()
        how = {"every_epochs": 2, "keep_best": self.keep_best, "max_time_share": self.max_time_share}
        return Validation(networks, self.held_out, ROIS, window, self.plan, **how)

    @property
    def kept(self) -> Snapshots:
        """Snapshots as empty files."""

        def save(path: Path) -> None:
            path.parent.mkdir(exist_ok=True)
            path.touch()

        return Snapshots(self.snapshots, self.plan.steps, self.work / "checkpoints" / "teachers", save)

    def run(self, prepare=lambda task: None) -> LatentClassTask:
        """Train to the end, after `prepare` has had its way with the task; writes `work`/weights.pt."""
        task = self.task()
        prepare(task)
        with init_distributed(self.execution) as distributed:
            train(
                task,
                TrainingData(self.plan, self.reader(), self.view_maker()),
                self.optimisation,
                self.execution,
                distributed,
                Checkpoints(self.work / "checkpoints"),
                title="tiny",
                optimisation_key="tiny",
                execution_key="tiny.execution",
                divisible=True,
                validation=self.validation(task),
                snapshots=self.kept,
            )
            if distributed.is_main:
                self.work.mkdir(exist_ok=True)
                torch.save({"student": task.student.state_dict(), **task.state_dict()}, self.work / "weights.pt")
        return task

    def history(self) -> list[dict]:
        text = (self.work / "checkpoints" / "history.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def weights(self) -> dict[str, torch.Tensor]:
        """All weights at the end of a training: the student's and the teacher's."""
        found = torch.load(self.work / "weights.pt", weights_only=True)
        return {f"{who}.{name}": value for who in ("student", "teacher") for name, value in found[who].items()}


def in_processes(function, *arguments, count=1) -> list[int]:
    """Call `function` in `count` forked processes that find each other as torchrun's do; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_as_rank, args=(rank, count, port, function, arguments)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    hanging = [process for process in processes if process.exitcode is None]
    for process in hanging:
        process.kill()
    assert not hanging, "a process hangs"
    return [process.exitcode for process in processes]


def _as_rank(rank, count, port, function, arguments) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    function(*arguments)


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
