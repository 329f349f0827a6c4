"""Weak and strong views against naive NumPy references, and batches of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import convolve1d

from pipeline_lib import label_bits as bits
from pipeline_lib.config.augmentation import StrongView, WeakView
from pipeline_lib.data import batches
from pipeline_lib.data.batches import scaled, unpacked
from pipeline_lib.data.reading import CropReader
from pipeline_lib.data.strong_view import StrongDraw, draw_strong, strong_image
from pipeline_lib.data.weak_view import WeakDraw, draw_weak, noise_generator, region_to_read, weak_codes, weak_image
from pipeline_lib.volumes import intensity
from pipeline_lib.volumes.store import open_volume
from tests.support import volume_labels
from tests.support.tiny_training import PATCH as PATCH_OF_TINY
from tests.support.volume_labels import read_planes

PATCH = (12, 10, 14)
CPU = torch.device("cpu")
zooms = st.floats(0.5, 2)


def noise(key="test"):
    return noise_generator(CPU, key)


def image_of(shape=PATCH, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, shape))


def linear(values, side):
    """Rows of `values` (first axis) at `side` places, evenly spread over its extent, linearly between neighbours."""
    count = len(values)
    result = np.zeros((side, *values.shape[1:]))
    for place in range(side):
        position = (place + 0.5) * count / side - 0.5
        position = min(max(position, 0), count - 1)
        low = min(int(position), count - 2) if count > 1 else 0
        high = min(low + 1, count - 1)
        result[place] = values[low] * (1 - (position - low)) + values[high] * (position - low)
    return result


def resized(array, shape, one_axis):
    for axis, side in enumerate(shape):
        array = np.moveaxis(one_axis(np.moveaxis(array, axis, 0), side), 0, axis)
    return array


def nearest(values, side):
    return values[[int((place + 0.5) * len(values) / side) for place in range(side)]]


@given(zooms, st.sets(st.sampled_from([0, 1, 2])), st.integers(0, 99))
def test_image_is_zoomed_and_mirrored_like_the_naive_reference(zoom, axes, seed):
    _, shape = region_to_read(np.zeros(3, int), PATCH, zoom)
    region = image_of(shape, seed)
    draw = WeakDraw(tuple(sorted(axes)), zoom, 0.0)
    expected = np.flip(resized(region.numpy(), PATCH, linear), sorted(axes))
    np.testing.assert_allclose(weak_image(region, draw, PATCH, noise()).numpy(), expected, atol=1e-6)


@given(zooms, st.sets(st.sampled_from([0, 1, 2])), st.integers(0, 99))
def test_labels_are_the_nearest_voxels_and_mirrored_alike(zoom, axes, seed):
    _, shape = region_to_read(np.zeros(3, int), PATCH, zoom)
    codes = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    draw = WeakDraw(tuple(sorted(axes)), zoom, 0.0)
    expected = np.flip(resized(codes, PATCH, nearest), sorted(axes))
    assert np.array_equal(weak_codes(torch.from_numpy(codes), draw, PATCH).numpy(), expected)


@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
def test_labels_stay_on_their_structure(zoom):
    _, shape = region_to_read(np.zeros(3, int), (32, 32, 32), zoom)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    centre = np.array(shape) * (0.4, 0.5, 0.6)
    ball = ((grid - centre) ** 2).sum(-1) < (8 / zoom) ** 2
    draw = WeakDraw((0, 2), zoom, 0.0)
    image = weak_image(torch.from_numpy(ball.astype(np.float32)), draw, (32, 32, 32), noise())
    labels = weak_codes(torch.from_numpy(ball.astype(np.uint8)), draw, (32, 32, 32)).bool()
    overlap = (labels & (image > 0.5)).sum() * 2 / (labels.sum() + (image > 0.5).sum())
    assert overlap > 0.93
    middle = torch.stack([axis.float().mean() for axis in torch.where(labels)])
    assert middle.tolist() == pytest.approx([32 * 0.6 - 1, 16, 32 * 0.4 - 1], abs=1.2)


@given(st.tuples(*[st.integers(-20, 50)] * 3), zooms)
def test_the_region_to_read_has_the_crops_centre(start, zoom):
    first, shape = region_to_read(np.array(start), PATCH, zoom)
    for begin, side, low, length in zip(start, PATCH, first, shape, strict=True):
        assert length == max(1, round(side / zoom))
        assert abs((begin + side / 2) - (low + length / 2)) <= 0.5


def test_no_zoom_reads_the_crop_itself():
    assert region_to_read(np.array([-3, 4, 5]), PATCH, 1.0) == ((-3, 4, 5), PATCH)


def test_draws_have_the_wanted_frequencies_and_ranges():
    view = WeakView(flip_probability=(0.0, 0.3, 1.0), zoom_probability=0.2, noise_probability=0.6)
    draws = [draw_weak(view, 0, sample) for sample in range(3000)]
    mirrored = np.array([[axis in draw.axes for axis in range(3)] for draw in draws])
    assert mirrored.mean(0) == pytest.approx([1.0, 0.3, 0.0], abs=0.03)
    # DoDNet draws the side of the region uniformly from 0.7 to 1.4 times the patch's, so 3 of 7 are enlarged.
    sides = np.array([1 / draw.zoom for draw in draws if draw.zoom != 1])
    assert len(sides) / 3000 == pytest.approx(0.2, abs=0.03)
    assert (sides.min(), sides.max(), sides.mean()) == pytest.approx((0.7, 1.4, 1.05), abs=0.03)
    assert (sides < 1).mean() == pytest.approx(3 / 7, abs=0.05)
    noisy = np.array([draw.noise for draw in draws if draw.noise])
    assert (len(noisy) / 3000, noisy.max()) == pytest.approx((0.6, 0.05), abs=0.03)


def test_strong_draws_have_the_wanted_frequencies():
    view = StrongView()
    draws = [draw_strong(view, 0, sample) for sample in range(3000)]
    unchanged = StrongDraw()
    for name, probability in {
        "noise": view.noise_probability,
        "blur_sigma": view.blur_probability,
        "brightness": view.brightness_probability,
        "shift": view.shift_probability,
        "contrast": view.contrast_probability,
        "resolution": view.low_resolution_probability,
        "gamma": view.gamma_probability,
    }.items():
        changed = [getattr(draw, name) for draw in draws if getattr(draw, name) != getattr(unchanged, name)]
        assert len(changed) / 3000 == pytest.approx(probability, abs=0.03), name


def test_half_of_the_gamma_draws_are_below_one():
    drawn = np.array([draw_strong(StrongView(gamma_probability=1), 0, sample).gamma for sample in range(3000)])
    assert (drawn < 1).mean() == pytest.approx(0.5, abs=0.03)
    assert (drawn.min(), drawn.max()) == pytest.approx((0.7, 1.5), abs=0.01)
    assert (drawn[drawn < 1].mean(), drawn[drawn > 1].mean()) == pytest.approx((0.85, 1.25), abs=0.02)
    for one_sided in ((0.5, 0.8), (1.2, 1.5)):
        view = StrongView(gamma_probability=1, gamma_range=one_sided)
        drawn = np.array([draw_strong(view, 0, sample).gamma for sample in range(300)])
        assert (drawn.min(), drawn.max()) == pytest.approx(one_sided, abs=0.02)


def test_dodnets_probabilities_are_halved_by_its_draw_per_channel():
    view = StrongView()
    effective = (view.blur_probability, view.shift_probability, view.low_resolution_probability)
    assert effective == (0.2 * 0.5, 0.15 * 0.5, 0.25 * 0.5)


def test_samples_have_draws_of_their_own_and_keep_them():
    views = WeakView(zoom_probability=1, noise_probability=1), StrongView(gamma_probability=1)
    for draw, view in zip((draw_weak, draw_strong), views, strict=True):
        assert draw(view, 0, 7) == draw(view, 0, 7)
        assert len({draw(view, seed, sample) for seed in range(3) for sample in range(5)}) == 15


def gaussian(image, sigma):
    radius = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    for axis in range(3):
        image = convolve1d(image, kernel / kernel.sum(), axis=axis, mode="mirror")
    return image


def contrast(image, factor):
    return np.clip((image - image.mean()) * factor + image.mean(), image.min(), image.max())


def gamma(image, exponent):
    """As batchgenerators' `augment_gamma` with `retain_stats`: a curve, then the mean and deviation of before."""
    mean, std, low = image.mean(), image.std(), image.min()
    extent = image.max() - low
    curved = ((image - low) / extent) ** exponent * extent + low
    centred = curved - curved.mean()
    return centred / (centred.std() + 1e-8) * std + mean


def low_resolution(image, share):
    coarse = resized(image, [round(side * share) for side in image.shape], nearest)
    return resized(coarse, image.shape, linear)


@pytest.mark.parametrize(
    ("draw", "reference"),
    [
        (StrongDraw(), lambda image: image),
        (StrongDraw(blur_sigma=0.8), lambda image: gaussian(image, 0.8)),
        (StrongDraw(brightness=1.2), lambda image: image * 1.2),
        (StrongDraw(shift=-0.2), lambda image: image - 0.2),
        (StrongDraw(contrast=1.25), lambda image: contrast(image, 1.25)),
        (StrongDraw(contrast=0.8), lambda image: contrast(image, 0.8)),
        (StrongDraw(resolution=0.5), lambda image: low_resolution(image, 0.5)),
        (StrongDraw(gamma=1.5), lambda image: gamma(image, 1.5)),
        (StrongDraw(brightness=0.8, shift=0.1, gamma=0.7), lambda image: gamma(image * 0.8 + 0.1, 0.7)),
    ],
)
def test_each_change_is_what_the_naive_reference_does(draw, reference):
    image = image_of()
    expected = reference(image.numpy())
    np.testing.assert_allclose(strong_image(image, draw, noise()).numpy(), expected, atol=1e-6)
    # Trainings have float32.
    np.testing.assert_allclose(strong_image(image.float(), draw, noise()).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("flat", [-1.0, 0.0, 0.3])
def test_a_flat_patch_stays_finite(flat):
    draw = StrongDraw(0.0, 1.0, 1.1, 0.1, 1.2, 0.5, 0.7)
    image = strong_image(torch.full(PATCH, flat), draw, noise())
    assert image == pytest.approx(np.full(PATCH, flat * 1.1 + 0.1), abs=1e-5)


def test_noise_has_its_deviation_and_its_key():
    image = torch.zeros(40, 40, 40)
    once, again = (strong_image(image, StrongDraw(noise=0.3), noise("a")) for _ in range(2))
    other = strong_image(image, StrongDraw(noise=0.3), noise("b"))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert (once.mean().item(), once.std().item()) == pytest.approx((0, 0.3), abs=0.005)
    weak = weak_image(image, WeakDraw((), 1.0, 0.05), (40, 40, 40), noise())
    assert weak.std().item() == pytest.approx(0.05, abs=0.001)


@given(st.integers(1, 20), st.integers(0, 99))
def test_label_bits_unpack_like_the_store_packs_them(count, seed):
    masks = np.random.default_rng(seed).random((2, count, 3, 4, 5)) < 0.5
    planes = np.stack([np.stack(list(bits.pack(sample))) for sample in masks])
    assert np.array_equal(unpacked(torch.from_numpy(planes), count).numpy(), masks)


def test_intensities_are_scaled_like_everywhere_else():
    window = (-325.0, 325.0)
    image = np.arange(-325, 326, dtype=np.int16)
    np.testing.assert_allclose(
        scaled(torch.from_numpy(image), window).numpy(), intensity.scaled(image, window), atol=1e-6
    )


def test_a_batch_is_its_samples_one_by_one(tiny):
    view_maker, reader = tiny.view_maker(), tiny.reader()
    regions = [reader.read(sample) for sample in range(6)]
    whole = view_maker.batch(regions)
    for number, region in enumerate(regions):
        alone = view_maker.batch([region])
        for name in ("weak", "strong", "labels", "labelled", "scores", "labelled_voxels"):
            assert torch.equal(getattr(whole, name)[number], getattr(alone, name)[0]), name
    assert torch.equal(whole.labels.sum((2, 3, 4)), whole.labelled_voxels)
    assert whole.samples == tuple(range(6))
    assert whole.datasets == ("tiny",) * 6
    assert whole.weak.dtype == whole.strong.dtype == torch.float32
    assert not torch.equal(whole.weak, whole.strong)


def test_labels_of_a_batch_are_the_volumes_own_bits(tiny):
    as_it_is = WeakView(flip_probability=(0, 0, 0), zoom_probability=0)
    view_maker, reader = tiny.view_maker(), CropReader(tiny.cases, tiny.plan, tiny.reader().patch, as_it_is)
    crops = [tiny.plan.crop(sample) for sample in range(4)]
    batch = view_maker.batch([reader.read(sample) for sample in range(4)])
    for labels, crop in zip(batch.labels.numpy(), crops, strict=True):
        case = tiny.cases[crop.case]
        planes = read_planes(open_volume(case.folder), tuple(map(int, case.pool[crop.position])), reader.patch)
        assert np.array_equal(labels, np.unpackbits(planes, axis=0, count=len(labels), bitorder="little"))
    assert batch.labels.any()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_codes_become_the_bits_that_they_stand_for(dtype):
    random = np.random.default_rng(0)
    combinations = random.integers(0, 256, (200, 3), dtype=np.uint8)
    codes = random.integers(0, 200, (4, 5, 6)).astype(dtype)
    found = batches.planes_of(torch.from_numpy(codes), torch.from_numpy(combinations))
    assert found.dtype == torch.uint8
    assert np.array_equal(found, volume_labels.planes_of(codes, combinations))


def test_without_a_strong_view_both_are_the_weak_one(tiny):
    batch = replace(tiny.view_maker(), strong=None).batch([tiny.reader().read(0)])
    assert torch.equal(batch.weak, batch.strong)


def read(tiny, weak, count=6):
    reader = CropReader(tiny.cases, tiny.plan, tiny.reader().patch, weak)
    return [reader.read(sample) for sample in range(count)]


QUIET = {"zoom_probability": 0, "noise_probability": 0}


def test_flips_move_image_and_labels_of_a_batch_alike(tiny):
    """x and z are flipped: every voxel and every label bit is where the volume has it at the opposite index."""
    batch = tiny.view_maker().batch(read(tiny, WeakView(flip_probability=(1, 0, 1), **QUIET)))
    for sample in range(6):
        crop = tiny.plan.crop(sample)
        case, volume = tiny.cases[crop.case], open_volume(tiny.cases[crop.case].folder)
        start = tuple(map(int, case.pool[crop.position]))
        planes = read_planes(volume, start, PATCH_OF_TINY)
        labels = np.unpackbits(planes, axis=0, count=batch.labels.shape[1], bitorder="little")
        image = volume.read_image(start, PATCH_OF_TINY) / 325
        assert np.array_equal(batch.labels[sample].numpy(), labels[:, ::-1, :, ::-1])
        np.testing.assert_allclose(batch.weak[sample, 0].numpy(), image[::-1, :, ::-1], atol=1e-6)


def test_the_strong_view_changes_intensities_of_the_weak_view_and_moves_nothing(tiny):
    """Student and teacher must see each voxel at the same index: x_S is x_T times a drawn factor here."""
    brighter = StrongView(
        noise_probability=0,
        blur_probability=0,
        brightness_probability=1,
        shift_probability=0,
        contrast_probability=0,
        low_resolution_probability=0,
        gamma_probability=0,
    )
    view_maker = replace(tiny.view_maker(), strong=brighter)
    batch = view_maker.batch(read(tiny, WeakView(zoom_probability=0.5)))
    factors = [draw_strong(brighter, tiny.seed, sample).brightness for sample in range(6)]
    for weak, strong, factor in zip(batch.weak, batch.strong, factors, strict=True):
        np.testing.assert_allclose(strong.numpy(), weak.numpy() * factor, atol=1e-6)


def test_the_strong_views_noise_is_independent_of_the_weak_views(tiny):
    noise = {"noise_probability": 1, "noise_std": (0.1, 0.1)}
    changes = ("blur", "brightness", "shift", "contrast", "low_resolution", "gamma")
    strong = StrongView(**noise, **{f"{name}_probability": 0 for name in changes})
    still = WeakView(flip_probability=(0, 0, 0), **QUIET)
    clean = tiny.view_maker().batch(read(tiny, still)).weak
    batch = replace(tiny.view_maker(), strong=strong).batch(read(tiny, still.model_copy(update=noise)))
    in_weak, in_strong = (batch.weak - clean).flatten(), (batch.strong - batch.weak).flatten()
    assert in_weak.std().item() == pytest.approx(0.1, abs=0.005)
    assert in_strong.std().item() == pytest.approx(0.1, abs=0.005)
    assert abs(np.corrcoef(in_weak, in_strong)[0, 1]) < 0.02
    first, second = (batch.weak - clean)[:2]
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.05
