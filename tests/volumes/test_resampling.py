import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.geometry import Geometry, to_canonical
from pipeline_lib.label_bits import roi_mask
from pipeline_lib.volumes.record import CaseRecord
from pipeline_lib.volumes.resampling import (
    image_volume,
    mask_volume,
    masks_on_original_grid,
    probability_on_original_grid,
)
from tests.support.grid_fixtures import ORIENTATIONS

WIDE = (-5000.0, 5000.0)


def positions(grid: Geometry) -> np.ndarray:
    """Millimetres (D H W 3) of every voxel's centre, from the definition."""
    z, y, x = np.indices(grid.shape)
    index = np.stack([x, y, z], axis=-1) * np.array(grid.spacing_mm)
    return index @ grid.axes.T + np.array(grid.origin_mm)


def ramp(grid: Geometry) -> np.ndarray:
    """HU that grow linearly in space, differently along each axis of the frame."""
    return np.rint(positions(grid) @ [9, 21, -15] + 40)


def well_within(source: Geometry, target: Geometry) -> np.ndarray:
    """bool D H W on `target`: at least three of the source's voxels from its ends, beyond which nothing is known."""
    index = (positions(target) - source.origin_mm) @ source.axes / source.spacing_mm
    return ((index >= 3) & (index <= np.array(source.size) - 4)).all(axis=-1)


def blobs(grid: Geometry) -> np.ndarray:
    """bool K D H W: two overlapping ellipsoids and one inside the first, about the grid's middle."""
    offset = positions(grid) - grid.corners_mm().mean(axis=0)
    parts = [((0, 0, 0), (14, 11, 13)), ((9, 4, 2), (8, 9, 12)), ((-3, 2, 0), (5, 4, 6))]
    return np.stack([(((offset - centre) / axes) ** 2).sum(axis=-1) <= 1 for centre, axes in parts])


def record_of(original: Geometry, grid: Geometry) -> CaseRecord:
    return CaseRecord(
        dataset="d",
        case="c",
        targets=("a", "b", "c"),
        labelled=("a",),
        shape=grid.shape,
        spacing_mm=grid.spacing_mm,
        origin_mm=grid.origin_mm,
        original=original,
        window_hu=WIDE,
        voxels={},
        foreground={},
        body=((0, 0, 0), grid.shape),
    )


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_ramp_has_its_own_value_everywhere_in_every_axis_order(direction):
    grid = Geometry(size=(18, 15, 13), spacing_mm=(1.5, 2, 3.5), origin_mm=(-8, 5, 20), direction=direction)
    target = grid.canonical().at_spacing((1.0, 1.25, 1.5))
    volume = image_volume(grid.image(ramp(grid).astype(np.int16)), target, WIDE)
    assert volume.dtype == np.int16
    assert well_within(grid, target).mean() > 0.05
    assert np.abs(volume - ramp(target))[well_within(grid, target)].max() <= 1


def test_a_ramp_has_its_own_value_on_an_oblique_grid(oblique):
    target = oblique.canonical().at_spacing((1.5, 1.5, 2.0))
    volume = image_volume(oblique.image(ramp(oblique).astype(np.float32)), target, WIDE)
    within = well_within(oblique, target)
    assert within.mean() > 0.1
    assert np.abs(volume - ramp(target))[within].max() <= 1
    corner = volume[0, 0, 0], volume[-1, -1, -1]
    assert set(corner) == {-1024}


def test_hu_are_clipped_to_the_window_and_a_constant_stays():
    grid = Geometry(size=(9, 8, 7), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    for hu, expected in ((77, 77), (-3000, -325), (2000, 325)):
        for spacing in ((0.4, 0.7, 0.9), (2.1, 3.3, 9.0)):
            volume = image_volume(grid.image(np.full(grid.shape, hu, np.int16)), grid.at_spacing(spacing), (-325, 325))
            assert (volume == expected).all()


@pytest.mark.parametrize("extreme", [-2048, -3024, -32768, 32767])
@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.8), (0.8, 0.8, 1.5), (1.7, 1.7, 4.0)])
def test_padding_and_metal_ring_no_more_than_air_and_bone_do(extreme, spacing):
    grid = Geometry(size=(30, 28, 12), spacing_mm=(0.7, 0.7, 1.5), origin_mm=(0, 0, 0))
    hu, ordinary = np.full((2, *grid.shape), 40, np.int16)
    hu[:, :, :11], ordinary[:, :, :11] = extreme, np.clip(extreme, -1024, 4095)
    target = grid.at_spacing(spacing)
    volume = image_volume(grid.image(hu), target, (-325, 325))
    assert np.array_equal(volume, image_volume(grid.image(ordinary), target, (-325, 325)))
    if extreme < 0:
        assert volume.max() < 130  # a step of 1,064 HU overshoots by 7 per cent


def test_noise_below_air_and_ordinary_metal_are_left_alone():
    grid = Geometry(size=(9, 8, 7), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    hu = np.random.default_rng(0).integers(-1250, 4000, grid.shape).astype(np.int16)
    assert np.array_equal(image_volume(grid.image(hu), grid, (-1299, 4095)), hu)


def test_a_wide_window_keeps_what_it_holds():
    grid = Geometry(size=(9, 8, 7), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    for hu in (-2048, 4000):
        assert (image_volume(grid.image(np.full(grid.shape, hu, np.int16)), grid, (-3000, 5000)) == hu).all()
    unsigned = np.full(grid.shape, 200, np.uint8)
    unsigned[0] = 0
    assert image_volume(grid.image(unsigned), grid, WIDE).max() == 200


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_stripes_finer_than_the_new_voxels_average_out(factor):
    grid = Geometry(size=(48, 6, 6), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    stripes = np.broadcast_to(np.where(np.arange(48) % 2, 100, -100), grid.shape).astype(np.int16)
    coarse = image_volume(grid.image(stripes), grid.at_spacing((factor, 1, 1)), WIDE)
    assert np.abs(coarse[:, :, 1:-1]).max() <= 25  # sampled without a filter they would be ±100


def in_volume(mask: np.ndarray, original: Geometry, target: Geometry) -> np.ndarray:
    volume = np.zeros(target.shape, bool)
    box, part = mask_volume(mask, original, target)
    volume[box] = part
    return volume


def test_a_mask_is_the_same_in_every_axis_order(direction):
    upright = Geometry(size=(31, 26, 15), spacing_mm=(1.1, 1.3, 2.5), origin_mm=(3, 4, 5))
    axes = np.reshape(direction, (3, 3))
    size, spacing = (np.abs(axes.T @ values) for values in (upright.size, upright.spacing_mm))
    first = np.where(axes.sum(axis=1) > 0, 0, np.array(upright.size) - 1)
    stored = Geometry(
        size=tuple(size.astype(int).tolist()),
        spacing_mm=tuple(spacing),
        origin_mm=tuple(np.array(upright.origin_mm) + first * upright.spacing_mm),
        direction=direction,
    )
    target = upright.at_spacing((0.8, 0.8, 1.5))
    for mask, same in zip(blobs(upright), blobs(stored), strict=True):
        assert mask.sum() == same.sum() > 0
        assert np.array_equal(in_volume(mask, upright, target), in_volume(same, stored, target))


def along(axis: int, first_mm: float, spacing_mm: float, count: int) -> Geometry:
    """A grid of two voxels at 0 and 1 mm along the other axes (x, y, z)."""
    size, spacing, origin = [2, 2, 2], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    size[axis], spacing[axis], origin[axis] = count, spacing_mm, first_mm
    return Geometry(size=tuple(size), spacing_mm=tuple(spacing), origin_mm=tuple(origin))


def half_space(grid: Geometry, axis: int) -> np.ndarray:
    """Voxels beyond 3.5 mm."""
    return positions(grid)[..., axis] > 3.5


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("first_mm", "spacing_mm", "expected"),
    [
        (3.05, 0.1, "0000011111"),
        (0.45, 1.5, "0001"),  # at 3.45 mm the cubic kernel gives 0.4376, the linear one 0.45
        (0.55, 1.5, "0011"),  # at 3.55 mm 0.5624 and 0.55
    ],
)
def test_an_edge_stays_halfway_between_the_voxels_on_its_sides(axis, first_mm, spacing_mm, expected):
    coarse, other = along(axis, 0, 1, 8), along(axis, first_mm, spacing_mm, len(expected))
    there = in_volume(half_space(coarse, axis), coarse, other)
    back = masks_on_original_grid([half_space(coarse, axis)], record_of(other, coarse)) > 0
    for found in (there, back):
        lines = np.moveaxis(found, 2 - axis, -1).reshape(4, -1)
        assert ["".join(map(str, line.astype(int))) for line in lines] == [expected] * 4


ROW_OF_FOUR = np.indices((2, 2, 2, 2)).reshape(4, 16).T[None] > 0
"""bool 1 16 4: each way to label four voxels in a row."""
FOUR_IN_A_ROW = Geometry(size=(4, 16, 1), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
BETWEEN_THEM = Geometry(size=(1, 16, 1), spacing_mm=(1, 1, 1), origin_mm=(1.5, 0, 0))


def keys(distance: float) -> float:
    """Cubic convolution as in Keys (1981), equation 15."""
    if distance < 1:
        return 3 / 2 * distance**3 - 5 / 2 * distance**2 + 1
    return -1 / 2 * distance**3 + 5 / 2 * distance**2 - 4 * distance + 2


def test_labels_reach_the_volume_by_keys_cubic_kernel():
    """Halfway between voxels the weights are −1, 9, 9, −1 sixteenths: 1 0 1 1 gives 7/16, linearly it would be ½."""
    weights = [keys(abs(place - 1.5)) for place in range(4)]
    assert weights == [-1 / 16, 9 / 16, 9 / 16, -1 / 16]
    found = in_volume(ROW_OF_FOUR, FOUR_IN_A_ROW, BETWEEN_THEM)
    assert np.array_equal(found[0, :, 0], ROW_OF_FOUR[0] @ weights >= 0.5)
    assert found.sum() == 10  # both middle ones and any others: 4; one of them with at most one other: 6


@pytest.mark.parametrize("full", [True, np.uint8(255), np.float32(1)])
def test_labels_come_back_by_the_linear_kernel(full):
    """Halfway between voxels the two beside it have half the weight each, and one half counts."""
    probability = np.where(ROW_OF_FOUR, full, np.zeros_like(full))
    found = masks_on_original_grid([probability], record_of(BETWEEN_THEM, FOUR_IN_A_ROW))
    assert np.array_equal(found[0, :, 0] > 0, ROW_OF_FOUR[0, :, 1] | ROW_OF_FOUR[0, :, 2])


@pytest.mark.parametrize(("below", "above"), [(np.uint8(127), np.uint8(128)), (np.float32(0.499), np.float32(0.5))])
def test_a_probability_of_one_half_is_foreground_as_byte_and_as_float(below, above, oblique):
    upright = Geometry(size=(6, 5, 4), spacing_mm=(1, 1.5, 2), origin_mm=(3, 4, 5))
    for original in (upright, oblique):
        grid = original.canonical()
        constant = [np.full(grid.shape, value) for value in (below, above)]
        bits = masks_on_original_grid(constant, record_of(original, grid))
        assert not roi_mask(bits, 0).any()
        assert roi_mask(bits, 1).all()


def test_a_mask_keeps_its_size_and_place():
    grid = Geometry(size=(60, 50, 20), spacing_mm=(0.7, 0.7, 3), origin_mm=(0, 0, 0))
    target = grid.at_spacing((0.8, 0.8, 1.5))
    for mask, expected in zip(blobs(grid), blobs(target), strict=True):
        volume = in_volume(mask, grid, target)
        assert dice(volume, expected) > 0.9
        ratio = volume.sum() * np.prod(target.spacing_mm) / (mask.sum() * np.prod(grid.spacing_mm))
        assert 0.95 < ratio < 1.05


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 1.5), (0.5, 0.5, 2), (1, 1, 1)])
def test_a_vessel_of_one_voxel_stays_whole_and_comes_back(spacing):
    grid = Geometry(size=(24, 24, 24), spacing_mm=(1, 1, 2), origin_mm=(0, 0, 0))
    vessel = np.zeros(grid.shape, bool)
    vessel[:, 11, 12] = True
    target = grid.at_spacing(spacing)
    volume = in_volume(vessel, grid, target)
    assert volume.any(axis=(1, 2)).all()
    back = masks_on_original_grid([volume], record_of(grid, target))
    assert dice(back > 0, vessel) > 0.95


def test_empty_full_and_single_voxel_masks():
    grid = Geometry(size=(9, 8, 7), spacing_mm=(1, 1, 2), origin_mm=(0, 0, 0))
    target = grid.at_spacing((0.8, 0.8, 1.5))
    assert not in_volume(np.zeros(grid.shape, bool), grid, target).any()
    assert in_volume(np.ones(grid.shape, bool), grid, target).all()
    for corner in ((0, 0, 0), (6, 7, 8)):
        mask = np.zeros(grid.shape, bool)
        mask[corner] = True
        place = tuple(0 if index == 0 else -1 for index in corner)
        assert in_volume(mask, grid, target)[place]
    nothing = masks_on_original_grid([np.zeros(target.shape, np.float32)] * 9, record_of(grid, target))
    assert nothing.dtype == np.uint16
    assert not nothing.any()


def test_masks_come_back_on_the_original_grid_overlaps_included(direction):
    grid = Geometry(size=(40, 36, 24), spacing_mm=(0.9, 1.0, 1.6), origin_mm=(3, 4, 5), direction=direction)
    target = grid.canonical().at_spacing((0.8, 0.8, 1.5))
    masks = blobs(grid)
    volume = [in_volume(mask, grid, target) for mask in masks]
    for scale in (np.bool_, np.uint8, np.float32):
        full = 255 if scale is np.uint8 else 1
        bits = masks_on_original_grid((part.astype(scale) * scale(full) for part in volume), record_of(grid, target))
        assert bits.shape == grid.shape
        for k, mask in enumerate(masks):
            assert dice(roi_mask(bits, k), mask) > 0.85


def test_masks_come_back_on_an_oblique_grid(oblique):
    target = oblique.canonical().at_spacing((0.8, 0.8, 1.5))
    masks = blobs(oblique)
    volume = [in_volume(mask, oblique, target) for mask in masks]
    bits = masks_on_original_grid(volume, record_of(oblique, target))
    assert bits.shape == oblique.shape
    for k, mask in enumerate(masks):
        assert dice(roi_mask(bits, k), mask) > 0.85


def test_smooth_structure_is_reproduced_better_than_linearly():
    grid = Geometry(size=(40, 36, 20), spacing_mm=(1.5, 1.5, 4), origin_mm=(0, 0, 0))
    target = grid.at_spacing((0.8, 0.8, 1.5))

    def wave(place: Geometry) -> np.ndarray:
        return 200 * np.cos(positions(place) @ [0.5, 0.4, 0.15])

    ours = image_volume(grid.image(wave(grid)), target, WIDE)
    simpleitk = sitk.Resample(
        grid.image(wave(grid)),
        target.size,
        sitk.Transform(),
        sitk.sitkLinear,
        target.origin_mm,
        target.spacing_mm,
        target.direction,
    )
    inner = (slice(4, -4),) * 3
    error, linear_error = (
        np.abs(found - wave(target))[inner].mean() for found in (ours, sitk.GetArrayFromImage(simpleitk))
    )
    assert error < linear_error / 2


@pytest.mark.parametrize("place", [7, 22, None])
def test_a_probability_comes_back_with_foreground_exactly_where_the_mask_is(place, oblique):
    original = oblique if place is None else oblique.model_copy(update={"direction": ORIENTATIONS[place]})
    target = original.canonical().at_spacing((2.0, 1.2, 1.7))
    probability = np.random.default_rng(0).integers(0, 256, target.shape, np.uint8)
    probability[: len(probability) // 3] = 0
    mask = masks_on_original_grid([probability], record_of(original, target)) > 0
    found = np.zeros(original.shape, np.uint8)
    box, values = probability_on_original_grid(probability, target, original)
    to_canonical(found, original)[box] = values
    assert np.array_equal(found >= 128, mask)
    # Constants come back as they are.
    for constant in (0, 1, 127, 128, 255):
        box, values = probability_on_original_grid(np.full(target.shape, constant, np.uint8), target, original)
        found[...] = 0
        to_canonical(found, original)[box] = values
        middle = tuple(slice(side // 3, 2 * side // 3) for side in original.shape)
        assert (found[middle] == constant).all()


def test_a_byte_just_below_a_half_is_foreground_where_the_mask_is():
    """Between 127 and 128, at 0.48 of the way: foreground by the mask's tolerance, but rounded to 127."""
    target = Geometry(size=(3, 3, 2), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    original = Geometry(size=(3, 3, 1), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0.48))
    probability = np.full(target.shape, 127, np.uint8)
    probability[1] = 128
    assert masks_on_original_grid([probability], record_of(original, target)).all()
    assert (probability_on_original_grid(probability, target, original)[1] == 128).all()
