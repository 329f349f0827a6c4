"""Reads crops from the volume store, in worker processes that run ahead of the training."""

from __future__ import annotations

import shutil
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from ..child_processes import die_with_parent
from ..config.augmentation import WeakView
from ..errors import UserError
from ..progress import say
from ..volumes.store import Volume, open_volume
from .crops import CropPlan, Shape, TrainingCase
from .mirroring import Partners, mirrored_combinations, mirrored_flags, mirrored_scores
from .weak_view import WeakDraw, draw_weak, region_to_read

_OPEN_VOLUMES = 32
_SECONDS_BETWEEN_LOOKS = 1
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, eq=False)
class Region:
    """What is read for one sample: its crop, or more or less than that where the weak view zooms.

    `draw` is the sample's weak view, whose zoom decides what is read. `image` int16 HU D' H' W', `codes` label codes
    D' H' W', `combinations` uint8 C P (volumes.label_codes), `unknown` the like with a bit for each ROI that is unknown
    where a code is (0 P: none is), `labelled` bool K, `scores` float32 K. Image and codes are not flipped yet; the
    others are those of the weak view, in which a flip along x has exchanged left and right.
    """

    sample: int
    name: str
    dataset: str
    draw: WeakDraw
    image: Tensor
    codes: Tensor
    combinations: Tensor
    unknown: Tensor
    labelled: Tensor
    scores: Tensor

    def pin_memory(self) -> Region:
        """Called by DataLoader, so that copies to a GPU overlap with computation."""
        return Region(*self._origin, *(tensor.pin_memory() for tensor in self._tensors))

    def in_shared_memory(self) -> Region | _ThroughPipe:
        """The region with its tensors in shared memory, or as arrays for the queue's pipe where that is too small."""
        try:
            for tensor in self._tensors:
                tensor.share_memory_()
        except (RuntimeError, OSError):
            return _ThroughPipe(*self._origin, tuple(tensor.numpy() for tensor in self._tensors))
        return self

    @property
    def _origin(self) -> tuple[int, str, str, WeakDraw]:
        return self.sample, self.name, self.dataset, self.draw

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.image, self.codes, self.combinations, self.unknown, self.labelled, self.scores


@dataclass(frozen=True, eq=False)
class _ThroughPipe:
    """A region as NumPy arrays: multiprocessing pickles these, while it puts tensors into shared memory."""

    sample: int
    name: str
    dataset: str
    draw: WeakDraw
    arrays: tuple[NDArray[Any], ...]

    def region(self) -> Region:
        return Region(self.sample, self.name, self.dataset, self.draw, *map(torch.from_numpy, self.arrays))


class StopWhileWaiting(Exception):  # noqa: N818
    """A stop was asked for while no crop came."""


@dataclass(frozen=True)
class _Failure:
    """An exception of a worker on its way to the training process."""

    error: UserError | None
    trace: str


class CropReader(Dataset[Region | _ThroughPipe | _Failure]):
    """The region of the i-th sample of a training; `partners` are the targets that a flip along x exchanges."""

    def __init__(
        self, cases: tuple[TrainingCase, ...], plan: CropPlan, patch: Shape, weak: WeakView, partners: Partners = ()
    ) -> None:
        self.cases, self.plan, self.patch, self.weak, self.partners = cases, plan, patch, weak, partners

    def __getitem__(self, sample: int) -> Region | _ThroughPipe | _Failure:
        # DataLoader rebuilds a worker's exception from its text alone, which loses the parts of a UserError.
        try:
            region = self.read(sample)
            # If this were left to the queue's own thread, a worker that finds no shared memory would drop the crop and
            # carry on, and the training would wait for it forever.
            return region if get_worker_info() is None else region.in_shared_memory()
        except UserError as error:
            return _Failure(error, "")
        except Exception:
            return _Failure(None, traceback.format_exc())

    def read(self, sample: int) -> Region:
        crop = self.plan.crop(sample)
        case = self.cases[crop.case]
        draw = draw_weak(self.weak, self.plan.seed, sample)
        start = case.pool[crop.position]
        first, shape = region_to_read(start, self.patch, draw.zoom)
        volume = _opened(case.folder)
        labelled, combinations, unknown = case.labelled, volume.combinations, volume.unknown
        scores = np.full(len(labelled), np.nan) if case.scores is None else case.scores[crop.position]
        if draw.exchanges_sides and self.partners:
            labelled = mirrored_flags(labelled, self.partners)
            scores = mirrored_scores(scores, self.partners)
            combinations = mirrored_combinations(combinations, self.partners)
            unknown = mirrored_combinations(unknown, self.partners)
        return Region(
            sample=sample,
            name=f"{case.dataset}/{case.name} at z,y,x {','.join(map(str, start))}",
            dataset=case.dataset,
            draw=draw,
            image=torch.from_numpy(volume.read_image(first, shape)),
            codes=torch.from_numpy(volume.read_codes(first, shape)),
            combinations=torch.tensor(combinations),
            unknown=torch.tensor(unknown),
            labelled=torch.tensor(labelled),
            scores=torch.tensor(scores, dtype=torch.float32),
        )


class _SamplesOfRank(Sampler[int]):
    """The samples of one rank, in order."""

    def __init__(self, plan: CropPlan, step: int, rank: int, world_size: int) -> None:
        self._arguments = (step, rank, world_size)
        self._plan = plan

    def __iter__(self) -> Iterator[int]:
        return self._plan.samples_from(*self._arguments)


def regions(
    reader: CropReader,
    step: int,
    rank: int = 0,
    world_size: int = 1,
    *,
    num_workers: int,
    pinned: bool,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Generator[Region, None, None]:
    """The regions of all samples of `rank` from `step` on, read ahead by `num_workers` processes (0: on demand).

    Close it to end the workers. Raises what a worker raised; UserError where a worker was killed or cannot be started;
    StopWhileWaiting if `stop_asked` while no region comes.
    """
    in_a_step = len(reader.plan.samples(0, rank, world_size))
    others = active_children()
    try:
        loader = DataLoader(
            reader,
            batch_size=None,
            sampler=_SamplesOfRank(reader.plan, step, rank, world_size),
            num_workers=num_workers,
            pin_memory=pinned,
            prefetch_factor=max(2, 2 * in_a_step // num_workers) if num_workers else None,
            worker_init_fn=_obey_the_training_alone,
            timeout=_SECONDS_BETWEEN_LOOKS if num_workers else 0,
        )
        items = iter(loader)
    except OSError as error:
        # The locks of the workers' queues lie in shared memory too.
        raise UserError(
            "execution.num_workers",
            f"processes that read crops cannot be started ({error.strerror}; shared memory: {_free_shared_memory()})",
            f"set it to 0, or make {_SHARED_MEMORY} larger (docker run --shm-size 2g)",
        ) from error
    workers = [child for child in active_children() if child not in others]
    warned = False
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                return
            except RuntimeError as error:
                if "timed out" not in str(error):
                    raise
                if stop_asked():
                    _kill(workers)
                    raise StopWhileWaiting from None
                continue
            if isinstance(item, _Failure):
                raise item.error or RuntimeError(f"reading a crop failed:\n{item.trace}")
            if isinstance(item, _ThroughPipe):
                if not warned:
                    say(
                        f"warning: shared memory is too small for the crops that workers read ahead "
                        f"({_free_shared_memory()}), so they are sent through pipes, which is slower; "
                        f"make {_SHARED_MEMORY} larger (docker run --shm-size 2g), or set execution.num_workers to 0"
                    )
                warned = True
                item = item.region()
            yield item
    except RuntimeError as error:
        raise killed_worker(error) or error from None
    finally:
        # The workers end with the last reference, which a traceback may keep: they ignore SIGTERM, so
        # multiprocessing's own clean-up at exit would wait for them for ever.
        del items, loader


def killed_worker(error: RuntimeError) -> UserError | None:
    """What to tell the user if `error` is DataLoader's about a dead worker; its signal handler raises it anywhere."""
    if "DataLoader worker" not in str(error):
        return None
    return UserError(
        "execution.num_workers",
        f"a process that reads crops was killed ({error})",
        "lower it, or give the job more memory (in a container also more shared memory)",
    )


def _kill(workers: Sequence[BaseProcess]) -> None:
    """End workers that may hang in a read: they ignore SIGTERM, and DataLoader would wait five seconds for each."""
    for _ in range(len(workers) + 1):
        # Of each death DataLoader's signal handler makes an error.
        with suppress(RuntimeError):
            for worker in workers:
                worker.kill()
                worker.join(_SECONDS_BETWEEN_LOOKS)


def _free_shared_memory() -> str:
    if not _SHARED_MEMORY.is_dir():
        return "size unknown"
    usage = shutil.disk_usage(_SHARED_MEMORY)
    return f"{usage.free / 2**20:.1f} of {usage.total / 2**20:.1f} MiB free"


def _obey_the_training_alone(worker: int) -> None:
    # A worker that waits at a full pipe would outlive a killed training, and with it the lock of its folder.
    die_with_parent()
    # The training process decides when to stop, and its workers end with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


@lru_cache(maxsize=_OPEN_VOLUMES)
def _opened(folder: Path) -> Volume:
    return open_volume(folder)
