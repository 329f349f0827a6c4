"""What a window cuts off below it, as it is kept for pictures."""

import numpy as np
import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.volumes.below_window import below_window, cuts_off, with_below_window
from pipeline_lib.volumes.store import BELOW_WINDOW, open_volume, write_below_window
from tests.support.synthetic import WINDOW, write_case

LOW = -325


def hu(shape, seed=0):
    return np.random.default_rng(seed).integers(-1300, 400, shape).astype(np.int16)


def naive(values, low):
    """The mean depth below `low` of the voxels of each block that lie below it, in steps of 8 HU."""
    steps = np.zeros([-(-side // 2) for side in values.shape], int)
    for place in np.ndindex(steps.shape):
        block = values[tuple(slice(2 * first, 2 * first + 2) for first in place)].astype(float)
        below = [low - value for value in block.ravel() if value < low]
        steps[place] = round(sum(below) / len(below) / 8) if below else 0
    return steps


@pytest.mark.parametrize("shape", [(6, 8, 4), (5, 7, 9), (1, 1, 1)])
def test_a_block_has_the_mean_depth_of_its_voxels_below_the_window(shape):
    values = hu(shape)
    steps = below_window(values, float(LOW))
    assert steps.dtype == np.uint8
    assert np.array_equal(steps, naive(values, LOW))


def test_voxels_within_the_window_come_back_as_they_are_and_the_others_by_their_block():
    values = hu((5, 7, 9))
    steps = naive(values, LOW)
    whole = with_below_window(np.maximum(values, LOW), below_window(values, LOW), LOW)
    for place in np.ndindex(values.shape):
        expected = values[place]
        if expected <= LOW:
            expected = LOW - 8 * steps[tuple(index // 2 for index in place)]
        assert whole[place] == expected


def test_a_dark_region_beside_tissue_keeps_its_grey():
    """The mean of a block is that of its dark voxels alone: no rim of half-dark lung around a vessel."""
    values = np.full((4, 4, 5), -860, np.int16)
    values[:, :, 3:] = 40
    whole = with_below_window(np.maximum(values, LOW), below_window(values, LOW), LOW)
    assert np.abs(whole.astype(int) - values).max() <= 4


@pytest.mark.parametrize(("low", "cut"), [(-325.0, True), (-1299.0, True), (-1300.0, False), (-1400.0, False)])
def test_only_a_window_above_the_least_hu_cuts_something_off(low, cut):
    assert cuts_off(low) is cut


def test_a_volume_shows_all_that_is_dark_where_that_was_kept_and_its_window_where_it_was_not(tmp_path):
    write_case(tmp_path, "set", "case", ("liver",), ("liver",))
    volume = open_volume(tmp_path / "case")
    stored = volume.read_image((0, 0, 0), volume.shape)
    assert volume.pictured_hu == WINDOW
    assert np.array_equal(volume.read_picture(), stored)

    stored_or_darker = np.where(stored <= np.median(stored), -900, stored).astype(np.int16)
    write_below_window(tmp_path / "case" / BELOW_WINDOW, stored_or_darker, (float(np.median(stored)), 325.0))
    assert volume.pictured_hu == (-np.inf, WINDOW[1])
    write_below_window(tmp_path / "case" / BELOW_WINDOW, stored, (-1300.0, 325.0))
    assert not (tmp_path / "case" / BELOW_WINDOW).exists(), "a window that cuts nothing off needs no such file"


def test_a_damaged_file_is_one_line(tmp_path):
    write_case(tmp_path, "set", "case", ("liver",), ("liver",))
    (tmp_path / "case" / BELOW_WINDOW).write_bytes(b"no array")
    with pytest.raises(UserError, match=r"below_window.b2nd: is not a readable blosc2 array; delete it"):
        open_volume(tmp_path / "case").read_picture()
