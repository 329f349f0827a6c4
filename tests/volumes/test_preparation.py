import numpy as np
import pytest

from pipeline_lib.geometry import Geometry
from pipeline_lib.volumes.preparation import body_box, foreground


def test_the_body_is_found_and_the_table_left_out():
    grid = Geometry(size=(80, 70, 30), spacing_mm=(2, 2, 5), origin_mm=(-50, -60, -70))
    image = np.full(grid.shape, -1000, np.int16)
    image[4:26, 20:50, 10:60] = 30
    image[:, 62:64, :] = 200  # the table
    target = grid.at_spacing((1.0, 1.0, 2.5))
    low, high = body_box(grid.image(image), target)
    expected_low, expected_high = np.array([8, 40, 20]), np.array([52, 100, 120])
    assert (np.array(low) <= expected_low).all()
    assert (np.array(high) >= expected_high).all()
    assert (expected_low - low <= 14).all()
    assert (high - expected_high <= 14).all()


@pytest.mark.parametrize("hu", [-1000, 50])
def test_without_an_outline_the_body_is_the_whole_volume(hu):
    grid = Geometry(size=(20, 20, 10), spacing_mm=(2, 2, 5), origin_mm=(0, 0, 0))
    assert body_box(grid.image(np.full(grid.shape, hu, np.int16)), grid) == ((0, 0, 0), grid.shape)


@pytest.mark.parametrize("share", [0, 0.0005, 0.5])
def test_foreground_voxels_are_in_the_mask_distinct_and_keyed(share):
    mask = np.random.default_rng(3).random((30, 40, 50)) < share
    count, voxels = foreground(mask, (0, 0, 0), "set", "case", "liver")
    assert count == mask.sum()
    assert len(voxels) == len(set(voxels)) == min(count, 1000)
    assert all(mask[voxel] for voxel in voxels)
    assert foreground(mask, (0, 0, 0), "set", "case", "liver")[1] == voxels
    moved = foreground(mask, (5, 6, 7), "set", "case", "liver")[1]
    assert moved == tuple((z + 5, y + 6, x + 7) for z, y, x in voxels)
    if count > 1000:
        assert foreground(mask, (0, 0, 0), "set", "case2", "liver")[1] != voxels
        assert abs(np.mean([z for z, _, _ in voxels]) - 14.5) < 2  # drawn from everywhere
