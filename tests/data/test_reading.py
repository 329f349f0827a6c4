"""Reading crops ahead of the training."""

import errno
import gc
import multiprocessing
import os
import shutil
import signal
import time
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from multiprocessing import active_children

import numpy as np
import psutil
import pytest
import torch

from pipeline_lib.data import reading
from pipeline_lib.data.reading import CropReader, StopWhileWaiting, regions
from pipeline_lib.data.weak_view import draw_weak
from pipeline_lib.errors import UserError
from pipeline_lib.volumes.store import open_volume
from tests.support.tiny_training import PATCH


@pytest.fixture(autouse=True)
def _no_worker_is_remembered():
    """DataLoader's signal handler tells of a dead worker at the next death of any process, until its loader is gone."""
    yield
    gc.collect()


def read(reader, step=0, workers=0, process=0, processes=1):
    return regions(reader, step, process, processes, num_workers=workers, pinned=False)


def test_a_region_is_the_zoomed_box_around_its_crop(tiny):
    reader = tiny.reader()
    for sample in range(20):
        crop = tiny.plan.crop(sample)
        case = tiny.cases[crop.case]
        zoom = draw_weak(reader.weak, tiny.seed, sample).zoom
        shape = tuple(round(side / zoom) for side in PATCH)
        start = [
            s + (side - length) // 2 for s, side, length in zip(case.pool[crop.position], PATCH, shape, strict=True)
        ]
        region, volume = reader.read(sample), open_volume(case.folder)
        assert np.array_equal(region.image, volume.read_image(start, shape))
        assert np.array_equal(region.codes, volume.read_codes(start, shape))
        assert np.array_equal(region.combinations, volume.combinations)
        assert np.array_equal(region.labelled, case.labelled)
        assert np.array_equal(region.scores, case.scores[crop.position])
        assert f"tiny/{case.name} at z,y,x {','.join(map(str, case.pool[crop.position]))}" == region.name


def test_cases_without_scores_have_unknown_ones(tiny):
    unscored = tuple(replace(case, scores=None) for case in tiny.cases)
    region = CropReader(unscored, tiny.plan, PATCH, tiny.reader().weak).read(0)
    assert region.scores.isnan().all()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_regions_come_in_the_order_of_the_samples_whoever_reads(tiny, workers):
    samples = [region.sample for region in read(tiny.reader(), step=2, workers=workers, process=1, processes=2)]
    assert samples == list(tiny.plan.samples_from(2, 1, 2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_workers_own_error_is_what_is_seen(tiny, tmp_path, workers):
    case = tiny.cases[0]
    broken = tmp_path / case.name
    shutil.copytree(case.folder, broken)
    (broken / "image.b2nd").write_bytes(b"no image")
    cases = tuple(replace(each, folder=broken) if each is case else each for each in tiny.cases)
    with pytest.raises(UserError, match=r"image\.b2nd: is not a readable blosc2 array"):
        list(read(CropReader(cases, tiny.plan, PATCH, tiny.reader().weak), workers=workers))
    assert not active_children(), "a worker was left behind"


class BrokenReader(CropReader):
    def read(self, sample):
        if sample == 3:
            raise ZeroDivisionError("a bug")
        return super().read(sample)


class KilledReader(CropReader):
    def read(self, sample):
        if sample == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(sample)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bug_keeps_its_traceback(tiny, workers):
    reader = BrokenReader(tiny.cases, tiny.plan, PATCH, tiny.reader().weak)
    with pytest.raises(RuntimeError, match=r"(?s)reading a crop failed:.*in read.*ZeroDivisionError: a bug"):
        list(read(reader, workers=workers))


def test_a_killed_worker_ends_in_one_line_that_says_so(tiny):
    reader = KilledReader(tiny.cases, tiny.plan, PATCH, tiny.reader().weak)
    with pytest.raises(
        UserError, match=r"^execution\.num_workers: a process that reads crops was killed \(.*\); lower"
    ):
        list(read(reader, workers=1))


def test_crops_go_through_pipes_where_shared_memory_is_too_small(tiny, monkeypatch, capsys):
    """As in a container with 64 MB of it: tensors cannot be shared, and the training gets them all the same."""

    def full(tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)")

    expected = list(islice(read(tiny.reader()), 6))
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with closing(read(tiny.reader(), workers=2)) as stream:
        found = list(islice(stream, 6))
    for one, other in zip(found, expected, strict=True):
        assert (one.sample, one.name, one.draw) == (other.sample, other.name, other.draw)
        for name in ("image", "codes", "combinations", "labelled", "scores"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
            assert getattr(one, name).dtype == getattr(other, name).dtype
    said = capsys.readouterr().err
    assert said.count("warning: shared memory is too small") == 1
    assert "MiB free" in said
    assert "num_workers to 0" in said


def test_workers_that_cannot_be_started_end_in_one_line(tiny, monkeypatch):
    def full(*_, **__) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reading, "DataLoader", full)
    with pytest.raises(UserError, match=r"num_workers: .* cannot be started \(No space left.*; set it to 0, or make"):
        next(read(tiny.reader(), workers=2))


class HangingReader(CropReader):
    def read(self, sample):
        if sample >= 2:
            time.sleep(3600)
        return super().read(sample)


def test_a_stop_is_obeyed_while_no_crop_comes(tiny):
    reader = HangingReader(tiny.cases, tiny.plan, PATCH, tiny.reader().weak)
    stop = []
    stream = regions(reader, 0, num_workers=1, pinned=False, stop_asked=lambda: bool(stop))
    with closing(stream):
        assert len(list(islice(stream, 2))) == 2
        stop.append(True)
        started = time.monotonic()
        with pytest.raises(StopWhileWaiting):
            next(stream)
    assert time.monotonic() - started < 10
    assert not active_children(), "a worker was left behind"


def test_a_worker_ends_with_a_training_that_is_killed_whatever_it_waits_for(tiny):
    """It holds the lock of the training's folder too, which the next process waits for."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def train() -> None:
        stream = regions(
            HangingReader(tiny.cases, tiny.plan, PATCH, tiny.reader().weak), 0, num_workers=1, pinned=False
        )
        next(stream)
        theirs.send([child.pid for child in active_children()])
        list(stream)

    training = fork.Process(target=train)
    training.start()
    assert ours.poll(60)
    (worker,) = ours.recv()
    training.kill()
    training.join()
    until = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, "the worker lives on"
            time.sleep(0.05)


def test_workers_leave_a_stop_to_the_training(tiny):
    with closing(read(tiny.reader(), workers=1)) as stream:
        next(stream)
        for child in active_children():
            os.kill(child.pid, signal.SIGTERM)
        assert len(list(islice(stream, 10))) == 10
    assert not active_children(), "a worker was left behind"
