"""Slab-by-slab prediction equals the prediction of the whole volume at once."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor, nn

from pipeline_lib.inference.sliding_window import SlidingWindow, gaussian_profile, predict_slabs, window_starts

ROIS = 3
WINDOW_HU = (-300.0, 500.0)


class Convolution(nn.Module):
    """A small network whose output depends on position in the window and on what is beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv3d(1, ROIS, 3, padding=1)
        self.windows_seen = 0

    def forward(self, image: Tensor) -> Tensor:
        self.windows_seen += len(image)
        ramp = torch.linspace(-1, 1, image.shape[-1])
        return 3 * self.conv(image) + ramp


def laid(shape=(8, 8, 8), overlap=0.5, at_once=2, mirror=False, partners=()) -> SlidingWindow:
    device = torch.device("cpu")
    return SlidingWindow(shape, overlap, at_once, mirror, WINDOW_HU, device, torch.float32, partners=partners)


def reader(image: np.ndarray):
    def read(start, shape):
        padded = np.pad(image, [(side, side) for side in shape], constant_values=int(WINDOW_HU[0]))
        return padded[tuple(slice(s + side, s + 2 * side) for s, side in zip(start, shape, strict=True))]

    return read


def predicted(network, image, window) -> np.ndarray:
    """All slabs joined, K D H W; checks that they follow each other without a gap."""
    parts, expected = [], 0
    for slab in predict_slabs(network, reader(image), image.shape, ROIS, window):
        assert slab.start == expected
        expected += slab.probabilities.shape[1]
        parts.append(slab.probabilities)
    return np.concatenate(parts, axis=1)


def of_whole_volume(network, image, window) -> np.ndarray:
    """The same in the obvious way, in float64: every window added to maps of the size of the volume."""
    sums = np.zeros((ROIS, *image.shape))
    weight_sums = np.zeros(image.shape)
    weights = np.einsum("i,j,k->ijk", *(gaussian_profile(side).astype(float) for side in window.shape))
    places = [
        window_starts(length, side, window.overlap) for length, side in zip(image.shape, window.shape, strict=True)
    ]
    axes_to_mirror = [a for n in range(4) for a in itertools.combinations((1, 2, 3), n)] if window.flip_tta else [()]
    low, high = WINDOW_HU
    for start in itertools.product(*places):
        cut = (np.clip(reader(image)(start, window.shape), low, high) - low) / (high - low) * 2 - 1
        probability = 0
        for axes in axes_to_mirror:
            flipped = np.flip(cut[None], axes).copy()
            with torch.no_grad():
                output = torch.sigmoid(network(torch.from_numpy(flipped)[None].float()))[0].numpy()
            if 3 in axes and window.partners:
                output = np.stack([output[partner] for partner in window.partners])
            probability = probability + np.flip(output, axes) / len(axes_to_mirror)
        for z, y, x in itertools.product(*(range(side) for side in window.shape)):
            voxel = (start[0] + z, start[1] + y, start[2] + x)
            if all(0 <= v < length for v, length in zip(voxel, image.shape, strict=True)):
                sums[:, *voxel] += weights[z, y, x] * probability[:, z, y, x]
                weight_sums[voxel] += weights[z, y, x]
    return sums / weight_sums


def some_image(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-600, 800, shape).astype(np.int16)


@pytest.mark.parametrize(("mirror", "partners"), [(False, ()), (True, ()), (True, (2, 1, 0)), (False, (2, 1, 0))])
@pytest.mark.parametrize("shape", [(13, 9, 11), (8, 8, 8), (5, 12, 3), (17, 8, 8)])
def test_slabs_equal_the_whole_volume_at_once(shape, mirror, partners):
    window = laid(mirror=mirror, partners=partners)
    image = some_image(shape)
    found = predicted(Convolution(), image, window)
    whole = of_whole_volume(Convolution(), image, window)
    assert found.shape == whole.shape
    assert np.abs(found - 255 * whole).max() <= 0.5 + 1e-3


class SameInEveryWindow(nn.Module):
    """The same random probabilities, whatever the image; each place in the window has its own."""

    def __init__(self, shape) -> None:
        super().__init__()
        self.probability = torch.from_numpy(np.random.default_rng(5).random((ROIS, *shape), np.float32))

    def forward(self, image: Tensor) -> Tensor:
        return self.probability.expand(len(image), *self.probability.shape)


def test_windows_are_blended_by_gaussians_of_an_eighth_of_their_sides():
    shape, sides = (6, 9, 12), (4, 6, 8)  # windows start at 0 and at half a side along each axis
    network = SameInEveryWindow(sides)
    found = predicted(network, np.full(shape, 100, np.int16), replace(laid(sides), to_probabilities=torch.Tensor.float))
    bells = [norm(loc=(side - 1) / 2, scale=side / 8) for side in sides]
    sums, weight_sums = np.zeros((ROIS, *shape)), np.zeros(shape)
    for start in itertools.product((0, 2), (0, 3), (0, 4)):
        for place in np.ndindex(sides):
            weight = np.prod([bell.pdf(index) for bell, index in zip(bells, place, strict=True)])
            voxel = tuple(np.add(start, place))
            sums[:, *voxel] += weight * network.probability[:, *place].numpy()
            weight_sums[voxel] += weight
    assert np.abs(found - 255 * sums / weight_sums).max() <= 0.5 + 1e-3


class ToldApart(nn.Module):
    """Left (ROI 0) where x is high, right (ROI 1) where it is low; ROI 2 has no side."""

    def forward(self, image: Tensor) -> Tensor:
        ramp = torch.linspace(-4, 4, image.shape[-1])
        return torch.cat([image + ramp, image - ramp, image], dim=1)


def test_mirrored_windows_exchange_left_and_right():
    """A network to which a mirrored left looks exactly like a right gains and loses nothing by the eight flips."""
    image = some_image((13, 9, 11))
    plain = predicted(ToldApart(), image, laid()).astype(int)
    exchanged = predicted(ToldApart(), image, laid(mirror=True, partners=(1, 0, 2))).astype(int)
    assert np.abs(exchanged - plain).max() <= 1
    mixed_up = predicted(ToldApart(), image, laid(mirror=True)).astype(int)
    assert np.abs(mixed_up - plain)[:2].max() > 50
    assert np.array_equal(mixed_up[2], exchanged[2])


def test_masks_are_the_same_at_one_half():
    image = some_image((13, 9, 11))
    whole = of_whole_volume(Convolution(), image, laid())
    sure = np.abs(whole - 0.5) > 1e-5
    assert np.array_equal((predicted(Convolution(), image, laid()) >= 128)[sure], (whole >= 0.5)[sure])


def test_the_window_batch_size_changes_nothing():
    image = some_image((13, 9, 11))
    one, many = (predicted(Convolution(), image, laid(at_once=count)) for count in (1, 5))
    assert np.abs(one.astype(int) - many).max() <= 1


def test_windows_of_air_share_one_pass_and_change_nothing():
    image = some_image((16, 8, 40))
    image[..., 12:32] = -1000
    network = Convolution()
    found = predicted(network, image, laid())
    passes = network.windows_seen
    assert np.abs(found - 255 * of_whole_volume(Convolution(), image, laid())).max() <= 0.5 + 1e-3
    windows, with_tissue = 3 * 1 * 9, 3 * 5
    assert passes == with_tissue + 1 < windows


@settings(deadline=None, max_examples=20)
@given(st.tuples(*[st.tuples(st.integers(0, 9), st.integers(1, 11), st.integers(0, 9)) for _ in range(3)]))
def test_windows_are_laid_around_the_patient_and_the_air_outside_holds_no_roi(axes):
    """Any number of slices of air before and after each side of the patient."""
    before, sides, after = zip(*axes, strict=True)
    patient = some_image(sides)
    for axis in range(3):  # every side of the box touches tissue
        patient[(0,) * axis + (slice(None, None, max(sides[axis] - 1, 1)),) + (0,) * (2 - axis)] = 300
    air = int(WINDOW_HU[0])  # as in a volume, which is clipped to the window
    image = np.pad(patient, list(zip(before, after, strict=True)), constant_values=air)
    inside = tuple(slice(first, first + side) for first, side in zip(before, sides, strict=True))
    found = predicted(Convolution(), image, laid())
    expected = np.zeros(found.shape)
    expected[:, *inside] = 255 * of_whole_volume(Convolution(), patient, laid())
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


def test_nothing_but_air_needs_no_network():
    network = Convolution()
    found = predicted(network, np.full((13, 9, 11), -1000, np.int16), laid())
    assert found.shape == (ROIS, 13, 9, 11)
    assert not found.any()
    assert network.windows_seen == 0


@pytest.mark.parametrize("air", [0, 5, 20])
def test_progress_counts_every_window(air):
    counted = []
    image = some_image((13, 9, 20))
    image[..., 20 - air :] = -1000
    list(predict_slabs(Convolution(), reader(image), image.shape, ROIS, laid(), counted.append))
    assert sum(counted) == 3 * 2 * 4
    assert max(counted) <= 6 if air < 20 else counted == [24]


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), st.floats(0, 0.9))
def test_windows_cover_every_voxel_with_the_overlap(length, side, overlap):
    starts = window_starts(length, side, overlap)
    covered = np.zeros(length, dtype=bool)
    for start in starts:
        covered[max(start, 0) : start + side] = True
    assert covered.all()
    if length > side:
        assert starts[0] == 0
        assert starts[-1] == length - side
        assert max(np.diff(starts)) <= np.ceil(side * (1 - overlap))
    else:
        assert starts == [-((side - length) // 2)]
