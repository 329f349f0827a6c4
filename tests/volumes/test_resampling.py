import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.volumes.bits import roi_mask
from pipeline_lib.volumes.geometry import Geometry
from pipeline_lib.volumes.record import CaseRecord
from pipeline_lib.volumes.resampling import image_volume, label_volume, masks_on_original_grid

WIDE = (-5000.0, 5000.0)


def positions(grid: Geometry) -> np.ndarray:
    """Millimetres (D H W 3) of every voxel's centre, from the definition."""
    z, y, x = np.indices(grid.shape)
    index = np.stack([x, y, z], axis=-1) * np.array(grid.spacing_mm)
    return index @ grid.axes.T + np.array(grid.origin_mm)


def ramp(grid: Geometry) -> np.ndarray:
    """HU that grow linearly in space, differently along each axis of the frame."""
    return np.rint(positions(grid) @ [9, 21, -15] + 40)


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
    grid = Geometry(size=(14, 11, 9), spacing_mm=(1.5, 2, 3.5), origin_mm=(-8, 5, 20), direction=direction)
    target = grid.canonical().at_spacing((1.0, 1.25, 1.5))
    volume = image_volume(grid.image(ramp(grid).astype(np.int16)), target, WIDE)
    inner = (slice(3, -3),) * 3  # beyond the outermost centres there is nothing to interpolate
    assert volume.dtype == np.int16
    assert np.abs(volume - ramp(target))[inner].max() <= 1


def test_a_ramp_has_its_own_value_on_an_oblique_grid(oblique):
    target = oblique.canonical().at_spacing((1.5, 1.5, 2.0))
    volume = image_volume(oblique.image(ramp(oblique).astype(np.float32)), target, WIDE)
    index = (positions(target) - oblique.origin_mm) @ oblique.axes / oblique.spacing_mm
    within = ((index >= 2) & (index <= np.array(oblique.size) - 3)).all(axis=-1)
    assert within.mean() > 0.2
    assert np.abs(volume - ramp(target))[within].max() <= 1
    corner = volume[0, 0, 0], volume[-1, -1, -1]
    assert set(corner) == {-1024}


def test_hu_are_clipped_to_the_window_and_a_constant_stays():
    grid = Geometry(size=(9, 8, 7), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    for hu, expected in ((77, 77), (-3000, -325), (2000, 325)):
        for spacing in ((0.4, 0.7, 0.9), (2.1, 3.3, 9.0)):
            volume = image_volume(grid.image(np.full(grid.shape, hu, np.int16)), grid.at_spacing(spacing), (-325, 325))
            assert (volume == expected).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_stripes_finer_than_the_new_voxels_average_out(factor):
    grid = Geometry(size=(48, 6, 6), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    stripes = np.broadcast_to(np.where(np.arange(48) % 2, 100, -100), grid.shape).astype(np.int16)
    coarse = image_volume(grid.image(stripes), grid.at_spacing((factor, 1, 1)), WIDE)
    assert np.abs(coarse[:, :, 1:-1]).max() <= 25  # sampled without a filter they would be ±100


def test_labels_are_those_of_the_nearest_voxel(direction):
    grid = Geometry(size=(7, 5, 6), spacing_mm=(1.5, 2, 2.5), origin_mm=(1, 2, 3), direction=direction)
    labels = np.random.default_rng(5).integers(0, 256, grid.shape, dtype=np.uint8)
    target = grid.canonical().at_spacing((1.1, 1.3, 1.7))
    volume = label_volume(grid.image(labels), target)
    old = positions(grid).reshape(-1, 3)
    for place, value in zip(positions(target).reshape(-1, 3), volume.ravel(), strict=True):
        distance = np.abs((old - place) @ grid.axes / grid.spacing_mm).max(axis=1)
        assert value in labels.ravel()[distance <= distance.min() + 1e-9]


def test_masks_come_back_on_the_original_grid_overlaps_included(direction):
    grid = Geometry(size=(40, 36, 24), spacing_mm=(0.9, 1.0, 1.6), origin_mm=(3, 4, 5), direction=direction)
    target = grid.canonical().at_spacing((0.8, 0.8, 1.5))
    masks = blobs(grid)
    volume = [label_volume(grid.image(mask.astype(np.uint8)), target) for mask in masks]
    for scale in (np.bool_, np.uint8, np.float32):
        full = 255 if scale is np.uint8 else 1
        bits = masks_on_original_grid((part.astype(scale) * scale(full) for part in volume), record_of(grid, target))
        assert bits.shape == grid.shape
        for k, mask in enumerate(masks):
            assert dice(roi_mask(bits, k), mask) > 0.85


def test_masks_come_back_on_an_oblique_grid(oblique):
    target = oblique.canonical().at_spacing((0.8, 0.8, 1.5))
    masks = blobs(oblique)
    volume = [label_volume(oblique.image(mask.astype(np.uint8)), target) > 0 for mask in masks]
    bits = masks_on_original_grid(volume, record_of(oblique, target))
    assert bits.shape == oblique.shape
    for k, mask in enumerate(masks):
        assert dice(roi_mask(bits, k), mask) > 0.85


def test_the_volume_agrees_with_simpleitk_where_nothing_gets_coarser():
    grid = Geometry(size=(20, 18, 12), spacing_mm=(1.5, 1.5, 4), origin_mm=(0, 0, 0))
    image = grid.image(np.random.default_rng(1).normal(0, 300, grid.shape).astype(np.float32))
    target = grid.at_spacing((0.8, 0.8, 1.5))
    ours = image_volume(image, target, WIDE)
    theirs = sitk.Resample(
        image, target.size, sitk.Transform(), sitk.sitkLinear, target.origin_mm, target.spacing_mm, target.direction
    )
    inner = (slice(2, -2),) * 3
    assert np.abs(ours - sitk.GetArrayViewFromImage(theirs))[inner].max() <= 0.51
