import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.label_bits import pack
from pipeline_lib.volumes.label_codes import coded
from tests.support.volume_labels import planes_of


@given(st.integers(1, 30), st.integers(1, 40), st.floats(0, 0.5), st.integers(0, 99))
def test_codes_stand_for_the_planes(rois, depth, share, seed):
    planes = pack(np.random.default_rng(seed).random((rois, depth, 3, 5)) < share)
    codes, combinations = coded(planes, planes.shape[1:])
    assert np.array_equal(planes_of(codes, combinations), planes)
    assert not combinations[0].any()
    seen = {(0,) * len(planes), *(tuple(voxel) for voxel in planes.reshape(len(planes), -1).T.tolist())}
    assert seen <= set(map(tuple, combinations.tolist()))
    assert len(combinations) == len(set(map(tuple, combinations.tolist())))


@pytest.mark.parametrize(("rois", "dtype"), [(1, "uint8"), (8, "uint8"), (9, "int16"), (15, "int16"), (16, "int32")])
def test_codes_are_as_wide_as_the_number_of_combinations_asks_for(rois, dtype):
    numbers = np.arange(2**16).reshape(16, 64, 64) % 2**rois
    planes = np.stack([numbers & 255, numbers >> 8]).astype(np.uint8)[: -(-rois // 8)]
    codes, combinations = coded(planes, numbers.shape)
    assert codes.dtype == dtype
    assert np.array_equal(planes_of(codes, combinations), planes)
    assert len(combinations) == 2**rois


@pytest.mark.parametrize(
    ("count", "dtype"), [(255, "uint8"), (256, "uint8"), (257, "int16"), (2**15, "int16"), (2**15 + 1, "int32")]
)
def test_one_combination_more_than_a_type_holds_takes_the_next(count, dtype):
    """No code wraps around: as many codes as combinations, from 0 on."""
    numbers = np.arange(count).reshape(count, 1, 1)
    planes = np.stack([numbers & 255, numbers >> 8]).astype(np.uint8)
    codes, combinations = coded(planes, numbers.shape)
    assert codes.dtype == dtype
    assert sorted(codes.ravel().tolist()) == list(range(count))
    assert np.array_equal(planes_of(codes, combinations), planes)


def test_planes_come_one_at_a_time():
    def planes():
        for value in (1, 0, 128):
            plane = np.full((20, 2, 2), value, np.uint8)
            yield plane
            plane[:] = 99  # the next plane may use the same memory

    codes, combinations = coded(planes(), (20, 2, 2))
    assert np.array_equal(planes_of(codes, combinations)[:, 0, 0, 0], [1, 0, 128])


def test_a_plane_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="label plane of shape"):
        coded([np.zeros((2, 3, 4), np.uint8)], (2, 3, 5))
