import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.geometry import Geometry, from_canonical, to_canonical


def position(grid: Geometry, index_xyz) -> np.ndarray:
    """Millimetres of a voxel's centre, straight from the definition."""
    return np.array(grid.origin_mm) + np.reshape(grid.direction, (3, 3)) @ (np.array(index_xyz) * grid.spacing_mm)


def test_every_voxel_keeps_its_place_in_the_canonical_frame(direction):
    grid = Geometry(size=(2, 3, 4), spacing_mm=(1, 2, 5), origin_mm=(7, 8, 9), direction=direction)
    numbers = np.arange(24).reshape(grid.shape)
    upright = grid.canonical()
    turned = to_canonical(numbers, grid)
    assert turned.shape == upright.shape
    assert np.array_equal(upright.axes, np.eye(3))
    for z, y, x in np.ndindex(*upright.shape):
        old_z, old_y, old_x = np.argwhere(numbers == turned[z, y, x])[0]
        assert np.allclose(position(upright, (x, y, z)), position(grid, (old_x, old_y, old_z)))
    assert np.array_equal(from_canonical(turned, grid), numbers)


def test_a_grid_is_oblique_only_if_a_corner_would_move_noticeably(direction, oblique):
    straight = Geometry(size=(100, 100, 50), spacing_mm=(1, 1, 3), origin_mm=(0, 0, 0), direction=direction)
    assert not straight.is_oblique
    for angle, expected in ((1e-4, False), (0.01, True)):
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        turned = straight.model_copy(update={"direction": tuple((turn @ straight.axes).ravel())})
        assert turned.is_oblique is expected
    assert oblique.is_oblique


def test_the_canonical_grid_of_an_oblique_one_holds_all_its_voxels(oblique):
    upright = oblique.canonical()
    low, high = np.array(upright.origin_mm), position(upright, np.array(upright.size) - 1)
    assert (oblique.corners_mm() >= low - 1e-6).all()
    assert (oblique.corners_mm() <= high + 1e-6).all()


@given(
    size=st.tuples(*[st.integers(1, 600)] * 3),
    old=st.tuples(*[st.floats(0.3, 8)] * 3),
    new=st.tuples(*[st.floats(0.3, 8)] * 3),
)
def test_another_spacing_covers_the_same_box_to_half_a_voxel(size, old, new):
    grid = Geometry(size=size, spacing_mm=old, origin_mm=(-5, 3, 1))
    other = grid.at_spacing(new)
    assert other.spacing_mm == new
    for end in (0, 1):
        edge = position(grid, (np.array(size) - 1) * end + (end - 0.5))
        new_edge = position(other, (np.array(other.size) - 1) * end + (end - 0.5))
        overlap = np.abs(edge - new_edge)
        one_voxel = np.array(other.size) == 1
        assert (overlap <= np.where(one_voxel, max(new), np.array(new) / 4 + 1e-6)).all()


def test_grids_are_the_same_within_a_quarter_of_a_voxel_and_the_difference_is_told():
    grid = Geometry(size=(10, 9, 8), spacing_mm=(1, 1, 3), origin_mm=(0, 0, 0))

    def changed(**changes) -> str:
        return grid.model_copy(update=changes).difference(grid)

    assert changed() == changed(origin_mm=(0.24, 0, -0.24)) == ""
    assert changed(origin_mm=(0.26, 0, 0)) == "corners lie up to 0.26 mm apart"
    assert changed(spacing_mm=(1, 1, 3.05)) == "corners lie up to 0.35 mm apart"
    assert changed(size=(10, 9, 7)) == "10×9×7 voxels against 10×9×8"


def test_right_angled_grids_stay_as_they_are(direction, oblique):
    for grid in (Geometry(size=(9, 8, 7), spacing_mm=(1, 2, 3), origin_mm=(4, 5, 6), direction=direction), oblique):
        assert grid.right_angled() == (grid, 0.0)
