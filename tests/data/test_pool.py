"""The pool of patch positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config.volumes import Patches
from pipeline_lib.data.pool import count_labelled, pool_positions
from pipeline_lib.geometry import Geometry
from pipeline_lib.volumes.record import CaseRecord

sides = st.tuples(*[st.integers(5, 150)] * 3)


def record_of(shape, foreground, body=None, case="case") -> CaseRecord:
    z, y, x = shape
    return CaseRecord(
        dataset="set",
        case=case,
        targets=tuple(foreground),
        labelled=tuple(foreground),
        shape=shape,
        spacing_mm=(1, 1, 1),
        origin_mm=(0, 0, 0),
        original=Geometry(size=(x, y, z), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0)),
        window_hu=(-325, 325),
        voxels={name: len(voxels) for name, voxels in foreground.items()},
        foreground=foreground,
        body=body or ((0, 0, 0), shape),
    )


@given(sides, st.integers(0, 9), st.floats(0, 1))
def test_patches_lie_in_the_volume_or_around_it(shape, seed, fraction):
    patches = Patches(size_voxels=(64, 32, 32), pool_size=12, foreground_fraction=fraction)
    voxel = tuple(side // 2 for side in shape)
    starts = pool_positions(record_of(shape, {"liver": (voxel,)}), patches, seed)
    assert starts.shape == (12, 3)
    for axis, (side, patch) in enumerate(zip(shape, patches.shape, strict=True)):
        if side >= patch:
            assert starts[:, axis].min() >= 0
            assert starts[:, axis].max() <= side - patch
        else:
            before = -starts[:, axis]
            after = starts[:, axis] + patch - side
            assert (np.abs(before - after) <= 1).all()


def test_equal_keys_give_equal_pools_and_others_give_others():
    patches = Patches(size_voxels=(64, 32, 32), pool_size=8)
    record = record_of((100, 100, 150), {"liver": ((50, 50, 50), (60, 60, 60))})
    first = pool_positions(record, patches, 0)
    assert np.array_equal(first, pool_positions(record, patches, 0))
    assert not np.array_equal(first, pool_positions(record, patches, 1))
    other = record_of((100, 100, 150), {"liver": ((50, 50, 50), (60, 60, 60))}, case="other")
    assert not np.array_equal(first, pool_positions(other, patches, 0))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.8, 1.0])
def test_the_share_around_foreground_takes_each_roi_equally_often(fraction):
    patches = Patches(size_voxels=(64, 32, 32), pool_size=40, foreground_fraction=fraction)
    # Far apart and far from the body's box, so that it is plain what a patch was drawn around.
    voxels = {"liver": ((50, 50, 50),), "liver_tumor": (), "spleen": ((250, 250, 250),)}
    record = record_of((400, 400, 400), voxels, body=((340, 40, 340), (360, 60, 360)))
    centres = pool_positions(record, patches, 0) + np.array(patches.shape) / 2
    quarter = np.array(patches.shape) / 4 + 1
    for place, expected in (((50, 50, 50), fraction / 2), ((250, 250, 250), fraction / 2)):
        near = (np.abs(centres - place) <= quarter).all(1)
        assert near.mean() == pytest.approx(expected)
    in_body = ((centres >= [339, 39, 339]) & (centres <= [361, 61, 361])).all(1)
    assert in_body.mean() == pytest.approx(1 - fraction)


def test_a_case_without_labelled_voxels_is_drawn_from_the_body():
    patches = Patches(size_voxels=(64, 32, 32), pool_size=30, foreground_fraction=1)
    record = record_of((300, 300, 300), {"colon_cancer": ()}, body=((100, 100, 100), (110, 200, 200)))
    centres = pool_positions(record, patches, 0) + np.array(patches.shape) / 2
    assert (centres >= 99).all()
    assert (centres <= [111, 201, 201]).all()
    assert np.ptp(centres, axis=0) == pytest.approx([10, 100, 100], rel=0.3)


def near(record, patches, voxel, **labelled_cases) -> int:
    """How many pooled patches were drawn around `voxel`."""
    centres = pool_positions(record, patches, 0, labelled_cases or None) + np.array(patches.shape) / 2
    return int((np.abs(centres - voxel) <= np.array(patches.shape) / 4 + 1).all(1).sum())


def test_a_pool_with_too_few_patches_for_all_rois_takes_those_that_few_cases_label():
    patches = Patches(size_voxels=(64, 32, 32), pool_size=4, foreground_fraction=0.5)
    voxels = {"liver": ((50, 50, 50),), "spleen": ((150, 150, 150),), "larynx": ((250, 250, 250),)}
    record = record_of((400, 400, 400), voxels, body=((340, 340, 340), (360, 360, 360)))
    for counts, expected in (
        ({}, (1, 1, 0)),
        ({"liver": 9, "spleen": 9, "larynx": 9}, (1, 1, 0)),
        ({"liver": 9, "spleen": 9, "larynx": 1}, (1, 0, 1)),
        ({"liver": 9, "spleen": 3, "larynx": 1}, (0, 1, 1)),
    ):
        assert tuple(near(record, patches, place, **counts) for (place,) in voxels.values()) == expected, counts


def test_labelling_cases_are_counted_whether_or_not_they_hold_the_roi():
    holding = record_of((9, 9, 9), {"liver": ((1, 1, 1),)})
    lacking = record_of((9, 9, 9), {"liver": (), "spleen": ()})
    assert count_labelled([holding, lacking]) == {"liver": 2, "spleen": 1}
