"""RTSTRUCT contours to masks: shapes drawn on slices, against the shapes themselves, voxel centre by voxel centre."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.datasets.dicom.contours import StructureSet, filled
from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from tests.support.dicom_files import contours_of, keyhole, rtstruct, write_series

GRID = Geometry(size=(44, 40, 12), spacing_mm=(1.0, 1.2, 3.0), origin_mm=(-21.3, -23.7, -15.8))


def places(grid):
    """D H W 3: positions of voxel centres."""
    index = np.stack(np.meshgrid(*(np.arange(side) for side in grid.size), indexing="ij"), axis=-1)
    return np.einsum("ij,xyzj->zyxi", grid.axes, index * grid.spacing_mm) + grid.origin_mm


def sphere(place):
    return 17 - np.linalg.norm(place, axis=-1)


def torus(place, axis):
    across = np.linalg.norm(np.delete(place, axis, axis=-1), axis=-1)
    return 5 - np.hypot(across - 12, place[..., axis])


def lying_torus(place):
    return torus(place, 2)


def standing_torus(place):
    return torus(place, 0)


def shell(place):
    return np.minimum(sphere(place), np.linalg.norm(place, axis=-1) - 15)


SHAPES = {"sphere": sphere, "lying torus": lying_torus, "standing torus": standing_torus, "shell": shell}


def structures(folder, grid, contours, digits=6, change=None):
    """What is drawn, read on the grid; each entry of `contours` is a ROI."""
    series = write_series(folder, grid)
    dicom = rtstruct(series, contours, digits)
    if change is not None:
        change(dicom)
    return StructureSet(folder / "rs.dcm", dicom, grid)


def doubtful(shape, grid, depth_mm=0.02):
    """Voxels whose centres lie so near the surface that a polygon may pass on either side."""
    return np.abs(shape(places(grid))) < depth_mm


@pytest.mark.parametrize("name", SHAPES)
def test_a_voxel_belongs_to_a_roi_if_its_centre_lies_within_its_contours(tmp_path, name):
    shape = SHAPES[name]
    mask = structures(tmp_path, GRID, {"roi": contours_of(shape, GRID, 0.1)}).mask("roi")
    clear = ~doubtful(shape, GRID)
    assert clear.mean() > 0.99
    assert np.array_equal(mask[clear], (shape(places(GRID)) > 0)[clear])
    assert mask.any()


@pytest.mark.parametrize("name", SHAPES)
def test_contours_on_an_oblique_series_are_filled_in_its_own_planes(tmp_path, oblique, name):
    axes = oblique.axes @ np.diag([1, -1, 1])
    origin = [0.2, -0.3, 0.4] - axes @ ((np.array(oblique.size) - 1) / 2 * oblique.spacing_mm)
    right_handed = oblique.model_copy(update={"direction": tuple(axes.ravel()), "origin_mm": tuple(origin)})
    shape = SHAPES[name]
    mask = structures(tmp_path, right_handed, {"roi": contours_of(shape, right_handed, 0.1)}).mask("roi")
    clear = ~doubtful(shape, right_handed)
    assert np.array_equal(mask[clear], (shape(places(right_handed)) > 0)[clear])
    assert mask.any()


def test_holes_may_be_keyholes(tmp_path):
    by_slice = {}
    for contour in contours_of(lying_torus, GRID):
        by_slice.setdefault(round(contour[0, 2], 3), []).append(contour)
    joined = []
    for found in by_slice.values():
        outer, inner = sorted(found, key=lambda contour: -np.ptp(contour[:, 0]))
        joined.append(keyhole(outer, inner))
    drawn = structures(tmp_path, GRID, {"two": contours_of(lying_torus, GRID), "keyholes": joined})
    assert drawn.mask("two").any()
    assert np.array_equal(drawn.mask("keyholes"), drawn.mask("two"))


def test_a_contour_that_is_stored_twice_counts_once(tmp_path):
    contours = contours_of(sphere, GRID)
    drawn = structures(tmp_path, GRID, {"once": contours, "twice": [*contours, *contours]})
    assert drawn.mask("twice").any()
    assert np.array_equal(drawn.mask("twice"), drawn.mask("once"))


def test_a_contour_may_lie_outside_of_the_image_in_part(tmp_path):
    aside = np.array([15, 0, 0])
    contours = [contour + aside for contour in contours_of(sphere, GRID)]
    mask = structures(tmp_path, GRID, {"roi": contours}).mask("roi")
    inside = sphere(places(GRID) - aside)
    clear = np.abs(inside) > 0.1
    assert np.array_equal(mask[clear], inside[clear] > 0)
    assert mask[:, :, -1].any()


def test_rounded_coordinates_still_name_their_slice(tmp_path):
    contours = contours_of(sphere, GRID)
    exact = structures(tmp_path / "a", GRID, {"roi": contours}).mask("roi")
    rounded = structures(tmp_path / "b", GRID, {"roi": contours}, digits=1).mask("roi")
    assert (exact ^ rounded).sum() < 0.02 * exact.sum()
    assert np.array_equal(rounded.any(axis=(1, 2)), exact.any(axis=(1, 2)))


def test_names_are_those_of_rois_that_are_drawn(tmp_path):
    square = box(GRID, 3, 5, 15)

    def change(dicom):
        dicom.ROIContourSequence[3].ContourSequence[0].ContourGeometricType = "POINT"
        del dicom.ROIContourSequence[4]

    contours = {
        "Liver": [square],
        "line": [square[:2]],
        "not drawn": [],
        "marker": [square],
        "no item": [square],
        "Spleen": [square],
    }
    assert structures(tmp_path, GRID, contours, change=change).names == ("Liver", "Spleen")
    assert structures(tmp_path, GRID, contours).names == ("Liver", "marker", "no item", "Spleen")


def box(grid, number, low, high):
    """A square contour in a slice, its corners half-way between voxel centres."""
    low, high = low - 0.5, high - 0.5
    corners = np.array([(low, low, number), (high, low, number), (high, high, number), (low, high, number)])
    return (corners * grid.spacing_mm) @ grid.axes.T + grid.origin_mm


def test_a_square_fills_its_voxels(tmp_path):
    mask = structures(tmp_path, GRID, {"roi": [box(GRID, 3, 5, 15), box(GRID, 3, 8, 10)]}).mask("roi")
    expected = np.zeros(GRID.shape, bool)
    expected[3, 5:15, 5:15] = True
    expected[3, 8:10, 8:10] = False
    assert np.array_equal(mask, expected)


def _beyond(number):
    return [box(GRID, number, 5, 15)]


REFUSED = {
    "between slices": ([box(GRID, 3.5, 5, 15)], r"contour of 'roi' between slices \(at 3.50\)"),
    "across slices": ([box(GRID, 3, 5, 15) + np.outer([0, 1, 1, 0], [0, 0, 3])], "across slices"),
    "beyond the last slice": (_beyond(12), "beyond the slices of its series"),
    "before the first slice": (_beyond(-1), "beyond the slices of its series"),
    "every second slice": ([box(GRID, number, 5, 15) for number in (2, 4, 6, 8)], "'roi' on about one slice in 2 only"),
    "crossing": ([box(GRID, 3, 5, 15), box(GRID, 3, 10, 20)], "contours of 'roi' that cross each other in slice 3"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_a_mask_cannot_show_is_refused_in_one_line(tmp_path, fault):
    contours, message = REFUSED[fault]
    drawn = structures(tmp_path, GRID, {"roi": contours, "sound": [box(GRID, 3, 5, 15)]})
    with pytest.raises(UserError, match=message) as caught:
        drawn.mask("roi")
    assert "\n" not in str(caught.value)
    assert caught.value.where == str(tmp_path / "rs.dcm")
    assert drawn.mask("sound").any()


def test_two_rois_of_one_name_are_refused(tmp_path):
    def change(dicom):
        dicom.StructureSetROISequence[1].ROIName = "roi"

    square = [box(GRID, 3, 5, 15)]
    drawn = structures(tmp_path, GRID, {"roi": square, "other": square}, change=change)
    assert drawn.names == ("roi",)
    with pytest.raises(UserError, match="has 2 ROIs named 'roi'"):
        drawn.mask("roi")


@pytest.mark.parametrize("data", [["1", "2", "3", "4", "5", "6", "7", "8"], ["1", "2", "3"] * 3 + ["", "2", "3"]])
def test_contours_that_are_not_points_are_refused(tmp_path, data):
    def change(dicom):
        dicom.ROIContourSequence[0].ContourSequence[0].ContourData = data

    with pytest.raises(UserError, match="contour of 'roi' that is not a list of points"):
        structures(tmp_path, GRID, {"roi": [box(GRID, 3, 5, 15)]}, change=change).mask("roi")


def test_a_roi_may_have_parts_with_slices_between_them(tmp_path):
    contours = [box(GRID, number, 5, 15) for number in (1, 2, 3, 7, 8)]
    mask = structures(tmp_path, GRID, {"roi": contours}).mask("roi")
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [1, 2, 3, 7, 8]


# No edge between such corners runs through the centre of a pixel.
corner = st.tuples(*(st.integers(-4, 24).map(lambda value, off=off: value / 2 + off) for off in (0.1317, 0.2953)))


@given(st.lists(st.lists(corner, min_size=3, max_size=7), max_size=3))
def test_filling_agrees_with_a_ray_from_each_pixel(polygons):
    """The reference casts a ray along the row of each pixel and counts the edges that it crosses."""
    contours = [np.array(polygon) for polygon in polygons]
    expected = np.zeros((9, 10), bool)
    for row, column in np.ndindex(expected.shape):
        crossed = 0
        for polygon in polygons:
            for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                if (y0 > row) != (y1 > row):
                    crossed += x0 + (row - y0) / (y1 - y0) * (x1 - x0) <= column
        expected[row, column] = crossed % 2
    assert np.array_equal(filled(contours, (9, 10)), expected)


def test_a_mask_traced_through_the_centres_of_its_outermost_pixels_comes_back():
    """As OpenCV traces masks: the contour of a hole, too, runs through pixels of the mask."""
    square = np.array([(2, 2), (10, 2), (10, 10), (2, 10)], float)
    hole = np.array([(4, 4), (8, 4), (8, 8), (4, 8)], float)
    diamond = np.array([(5, 2), (8, 5), (5, 8), (2, 5)], float)
    y, x = np.indices((13, 12))
    assert np.array_equal(filled([square], (13, 12)), (x >= 2) & (x <= 10) & (y >= 2) & (y <= 10))
    assert np.array_equal(filled([diamond], (13, 12)), np.abs(x - 5) + np.abs(y - 5) <= 3)
    in_hole = (x > 4) & (x < 8) & (y > 4) & (y < 8)
    assert np.array_equal(filled([square, hole], (13, 12)), filled([square], (13, 12)) & ~in_hole)


def test_rounding_of_coordinates_does_not_fray_edges_through_voxel_centres(tmp_path):
    corners = box(GRID, 3, 5.5, 15.5)
    frayed = corners + np.random.default_rng(0).uniform(-5e-4, 5e-4, corners.shape)
    mask = structures(tmp_path, GRID, {"roi": [frayed]}).mask("roi")
    expected = np.zeros(GRID.shape, bool)
    expected[3, 5:16, 5:16] = True
    assert np.array_equal(mask, expected)


def test_contours_beyond_the_image_fill_what_lies_within():
    square = np.array([(-5, -5), (3, -5), (3, 20), (-5, 20)], float)
    assert np.array_equal(filled([square], (9, 10)), np.arange(10) <= np.full((9, 1), 3))
    for aside in (np.array([20, 0]), np.array([0, -30]), np.array([0, 15])):
        assert not filled([square + aside], (9, 10)).any()
