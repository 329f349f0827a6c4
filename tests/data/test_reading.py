"""Reading crops ahead of the training."""

import os
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from itertools import islice
from multiprocessing import active_children

import numpy as np
import pytest

from pipeline_lib.data.reading import CropReader, regions
from pipeline_lib.data.weak_view import draw_weak
from pipeline_lib.errors import UserError
from pipeline_lib.volumes.store import open_volume
from tests.support.tiny_training import PATCH


def read(reader, step=0, workers=0, process=0, processes=1):
    return regions(reader, step, process, processes, workers=workers, pinned=False)


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
        UserError, match=r"^execution\.data_workers: a process that reads crops was killed \(.*\); lower"
    ):
        list(read(reader, workers=1))


def test_workers_leave_a_stop_to_the_training(tiny):
    with closing(read(tiny.reader(), workers=1)) as stream:
        next(stream)
        for child in active_children():
            os.kill(child.pid, signal.SIGTERM)
        assert len(list(islice(stream, 10))) == 10
    assert not active_children(), "a worker was left behind"
