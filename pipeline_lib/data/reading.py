"""Reading crops from the volume store, in worker processes that run ahead of the training."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..config.augmentation import WeakView
from ..errors import UserError
from ..volumes.store import Volume, open_volume
from .crops import CropPlan, Shape, TrainingCase
from .weak_view import draw_weak, region_to_read

_OPEN_VOLUMES = 32


@dataclass(frozen=True, eq=False)
class Region:
    """What is read for one sample: its crop, or more or less than that where the weak view zooms.

    `image` int16 HU D' H' W', `codes` label codes D' H' W', `combinations` uint8 C P (volumes.label_codes), `labelled`
    bool K, `scores` float32 K.
    """

    sample: int
    name: str
    image: Tensor
    codes: Tensor
    combinations: Tensor
    labelled: Tensor
    scores: Tensor

    def pin_memory(self) -> Region:
        """Called by DataLoader, so that copies to a GPU run beside the computation."""
        tensors = (self.image, self.codes, self.combinations, self.labelled, self.scores)
        return Region(self.sample, self.name, *(tensor.pin_memory() for tensor in tensors))


@dataclass(frozen=True)
class _Failure:
    """An exception of a worker, carried to the training process in words."""

    error: UserError | None
    trace: str


class CropReader(Dataset[Region | _Failure]):
    """The region of the i-th sample of a training."""

    def __init__(self, cases: tuple[TrainingCase, ...], plan: CropPlan, patch: Shape, weak: WeakView) -> None:
        self.cases, self.plan, self.patch, self.weak = cases, plan, patch, weak

    def __getitem__(self, sample: int) -> Region | _Failure:
        # DataLoader rebuilds a worker's exception from its text alone, which loses what UserError consists of.
        try:
            return self.read(sample)
        except UserError as error:
            return _Failure(error, "")
        except Exception:
            return _Failure(None, traceback.format_exc())

    def read(self, sample: int) -> Region:
        crop = self.plan.crop(sample)
        case = self.cases[crop.case]
        zoom = draw_weak(self.weak, self.plan.seed, sample).zoom
        start = case.pool[crop.position]
        first, shape = region_to_read(start, self.patch, zoom)
        volume = _opened(case.folder)
        scores = np.full(len(case.labelled), np.nan) if case.scores is None else case.scores[crop.position]
        place = ",".join(str(index) for index in start)
        return Region(
            sample,
            f"{case.dataset}/{case.name} at z,y,x {place}",
            torch.from_numpy(volume.read_image(first, shape)),
            torch.from_numpy(volume.read_codes(first, shape)),
            torch.tensor(volume.combinations),
            torch.tensor(case.labelled),
            torch.tensor(scores, dtype=torch.float32),
        )


class _Numbers(Sampler[int]):
    """Sample numbers in the order in which one process needs them."""

    def __init__(self, plan: CropPlan, step: int, process: int, processes: int) -> None:
        self._numbers = (plan, step, process, processes)

    def __iter__(self) -> Iterator[int]:
        plan, step, process, processes = self._numbers
        return plan.samples_from(step, process, processes)


def regions(
    reader: CropReader, step: int, process: int, processes: int, workers: int, pinned: bool
) -> Generator[Region, None, None]:
    """The regions of all samples of `process` from `step` on, read ahead by `workers` processes (0: read on demand).

    Close it to end the workers. Raises what a worker raised; UserError where a worker was killed.
    """
    loader = DataLoader(
        reader,
        batch_size=None,
        sampler=_Numbers(reader.plan, step, process, processes),
        num_workers=workers,
        pin_memory=pinned,
        prefetch_factor=max(2, 2 * len(reader.plan.samples(0, process, processes)) // workers) if workers else None,
        worker_init_fn=_leave_signals_to_the_training,
    )
    items = iter(loader)
    try:
        for item in items:
            if isinstance(item, _Failure):
                raise item.error or RuntimeError(f"reading a crop failed:\n{item.trace}")
            yield item
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        raise UserError(
            "execution.num_workers",
            f"a process that reads crops was killed ({error})",
            "lower it, or give the job more memory",
        ) from error
    finally:
        # The workers end with the last reference, and must not wait for whoever keeps this frame in a traceback:
        # they ignore SIGTERM, so multiprocessing's own clean-up at exit would wait for them for ever.
        del items, loader


def _leave_signals_to_the_training(worker: int) -> None:
    # The training process decides when to stop, and its workers end with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


@lru_cache(maxsize=_OPEN_VOLUMES)
def _opened(folder: Path) -> Volume:
    return open_volume(folder)
