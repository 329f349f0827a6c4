"""Sliding-window prediction of all ROIs of a volume, slab by slab, so that memory does not grow with its length.

Neighbouring windows are blended with Gaussian weights. Windows are visited from the lowest slice upwards; as soon as no
later window can reach a slice, its probabilities are finished, rounded to bytes and handed out. Only one slab of
K float32 channels, as thick as a window, exists at any time. Windows cover the patient's box, not the air around it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import blosc2
import numpy as np
import torch
from torch import Tensor, nn

from ..networks.probabilities import probabilities
from ..volumes.intensity import scaled

Shape = tuple[int, int, int]
ReadImage = Callable[[Shape, Shape], np.ndarray]

PROBABILITY_STEPS = 255
"""A finished probability p is the byte round(255 p); p ≥ 0.5 exactly where the byte is at least 128."""

GAUSSIAN_WIDTH = 0.125
"""Standard deviation of the blending weights as a share of the window's side (nnU-Net's and MONAI's choice)."""


@dataclass(frozen=True)
class SlidingWindow:
    """How windows are laid and what the network sees.

    Fields: window's shape (D, H, W); overlap of neighbours, 0 ≤ overlap < 1; windows put through the network together;
    whether to average over the eight mirrored windows; intensity window (low, high) in HU; autocast precision; what
    turns the network's logits into probabilities; for each of K ROIs the one that it becomes in a window mirrored along
    x (empty: no ROI has a side).
    """

    shape: Shape
    overlap: float
    window_batch_size: int
    flip_tta: bool
    window_hu: tuple[float, float]
    device: torch.device
    precision: torch.dtype
    to_probabilities: Callable[[Tensor], Tensor] = probabilities
    partners: tuple[int, ...] = ()


@dataclass(frozen=True)
class Slab:
    """Finished slices from `start` on: probability of each ROI as bytes, uint8, K d H W."""

    start: int
    probabilities: np.ndarray


def window_starts(length: int, side: int, overlap: float) -> list[int]:
    """First voxel of each window along one axis.

    Evenly spread, neighbours overlapping by at least `overlap`; a volume shorter than the window gets one window,
    centred on it (so its start is negative).
    """
    if length <= side:
        return [-((side - length) // 2)]
    count = math.ceil((length - side) / (side * (1 - overlap))) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def window_count(volume_shape: Shape, window: SlidingWindow) -> int:
    """Number of windows that cover a volume."""
    sides = zip(volume_shape, window.shape, strict=True)
    return math.prod(len(window_starts(length, side, window.overlap)) for length, side in sides)


def gaussian_profile(side: int) -> np.ndarray:
    """Blending weights along one axis, float32, highest 1; a window's weights are the product of three profiles."""
    distance = np.arange(side) - (side - 1) / 2
    return np.exp(-0.5 * (distance / (GAUSSIAN_WIDTH * side)) ** 2).astype(np.float32)


def predict_slabs(
    network: nn.Module,
    read_image: ReadImage,
    volume_shape: Shape,
    roi_count: int,
    window: SlidingWindow,
    on_windows: Callable[[int], None] = lambda count: None,
) -> Iterator[Slab]:
    """Probabilities of all ROIs, in slabs of finished slices from the lowest slice upwards.

    Outside `occupied_box` there is nothing but air: no window is laid there, and probabilities are 0.

    Parameters
    ----------
    network: B 1 D H W in [−1, 1] → logits B K D H W, in eval mode, on `window.device`.
    read_image: (start, shape) → int16 HU, D H W; outside the volume the low end of the intensity window.
    volume_shape: (D, H, W) of the volume.
    roi_count: K.
    on_windows: called with the number of windows just finished, for progress; they add up to `window_count`.
    """
    start, stop = occupied_box(read_image, volume_shape, window)
    box: Shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
    told = _counted_as(on_windows, window_count(volume_shape, window), window_count(box, window) if all(box) else 0)

    def read_in_box(place: Shape, shape: Shape) -> np.ndarray:
        return read_image((place[0] + start[0], place[1] + start[1], place[2] + start[2]), shape)

    yield from _air(0, start[0], volume_shape, roi_count, window)
    if all(box):
        canvas = _Canvas(box, roi_count, window, (volume_shape[1:], start[1:]))
        for slab in _slabs_of_box(network, read_in_box, canvas, told):
            yield Slab(start[0] + slab.start, slab.probabilities)
    yield from _air(stop[0], volume_shape[0], volume_shape, roi_count, window)


def _counted_as(on_windows: Callable[[int], None], total: int, laid: int) -> Callable[[int], None]:
    """`on_windows` for the `laid` windows of a volume that `total` would cover: those in the air are done with them."""
    if not laid:
        on_windows(total)
    done = told = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        on_windows(total * done // laid - told)
        told = total * done // laid

    return advance


def _air(first: int, last: int, volume_shape: Shape, roi_count: int, window: SlidingWindow) -> Iterator[Slab]:
    """Slices `first` to `last` (exclusive) without any ROI."""
    for start in range(first, last, window.shape[0]):
        depth = min(window.shape[0], last - start)
        yield Slab(start, np.zeros((roi_count, depth, *volume_shape[1:]), np.uint8))


def occupied_box(read_image: ReadImage, volume_shape: Shape, window: SlidingWindow) -> tuple[Shape, Shape]:
    """Half-open box (z, y, x) of all voxels above the low end of the intensity window, table included.

    Two equal corners if there are none. Read in slabs as thick as a window.
    """
    occupied = [np.zeros(length, bool) for length in volume_shape]
    for first in range(0, volume_shape[0], window.shape[0]):
        depth = min(window.shape[0], volume_shape[0] - first)
        above = read_image((first, 0, 0), (depth, *volume_shape[1:])) > window.window_hu[0]
        in_plane = above.any(axis=0)
        occupied[0][first : first + depth] = above.any(axis=(1, 2))
        occupied[1] |= in_plane.any(axis=1)
        occupied[2] |= in_plane.any(axis=0)
    if not occupied[0].any():
        return (0, 0, 0), (0, 0, 0)
    ends = [np.flatnonzero(axis)[[0, -1]] + (0, 1) for axis in occupied]
    (z, end_z), (y, end_y), (x, end_x) = (map(int, pair) for pair in ends)
    return (z, y, x), (end_z, end_y, end_x)


def _slabs_of_box(
    network: nn.Module, read_image: ReadImage, canvas: _Canvas, on_windows: Callable[[int], None]
) -> Iterator[Slab]:
    """As `predict_slabs`, with windows over all of the box that `canvas` is for; slabs count from its lowest slice."""
    window, (starts_z, starts_y, starts_x) = canvas.window, canvas.starts
    predict = _Predictor(network, window)
    for place, start_z in enumerate(starts_z):
        origin = (start_z, starts_y[0], starts_x[0])
        extent = (window.shape[0], starts_y[-1] - starts_y[0], starts_x[-1] - starts_x[0])
        rows = read_image(origin, (extent[0], extent[1] + window.shape[1], extent[2] + window.shape[2]))
        corners = list(itertools.product(starts_y, starts_x))
        for chosen, output in predict(rows, [(y - starts_y[0], x - starts_x[0]) for y, x in corners]):
            for index, probability in zip(chosen, output, strict=True):
                canvas.add(probability, (start_z, *corners[index]))
            on_windows(len(chosen))
        next_start = starts_z[place + 1] if place + 1 < len(starts_z) else canvas.shape[0]
        yield canvas.finish_below(next_start)


def kept_compressed(slabs: Iterable[Slab], volume_shape: Shape, roi_count: int, depth: int) -> blosc2.NDArray:
    """Probabilities of all slabs, uint8 K D H W, compressed in memory; they are mostly runs of 0 and 255.

    `depth` is that of the window. Reading one ROI, `kept[k]`, unpacks no other.
    """
    kept = blosc2.empty(
        (roi_count, *volume_shape),
        dtype=np.uint8,
        chunks=(1, min(depth, volume_shape[0]), *volume_shape[1:]),
        cparams={"codec": blosc2.Codec.LZ4, "clevel": 5},
    )
    for slab in slabs:
        kept[:, slab.start : slab.start + slab.probabilities.shape[1]] = slab.probabilities
    return kept


class _Predictor:
    """Puts windows through the network; windows of nothing but air share one result, since they share one input."""

    def __init__(self, network: nn.Module, window: SlidingWindow) -> None:
        self.network, self.window = network, window
        self._of_air: Tensor | None = None

    def __call__(self, rows: np.ndarray, corners: list[tuple[int, int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield (indices into `corners`, probabilities B K D H W) in an order that fills the batches.

        rows: int16, D H' W', one window deep. corners: first (row, column) of each window in it.
        """
        _, height, width = self.window.shape
        cuts = [rows[:, y : y + height, x : x + width] for y, x in corners]
        air = [index for index, cut in enumerate(cuts) if cut.max() <= self.window.window_hu[0]]
        for index in air:
            if self._of_air is None:
                self._of_air = self._probabilities([cuts[index]])
            yield [index], self._of_air
        others = sorted(set(range(len(cuts))) - set(air))
        for first in range(0, len(others), self.window.window_batch_size):
            chosen = others[first : first + self.window.window_batch_size]
            yield chosen, self._probabilities([cuts[index] for index in chosen])

    @torch.inference_mode()
    def _probabilities(self, cuts: list[np.ndarray]) -> Tensor:
        window = self.window
        images = torch.from_numpy(np.stack([scaled(cut, window.window_hu) for cut in cuts]))[:, None].to(window.device)
        total = self._output(images)
        if window.flip_tta:
            for axes in _MIRRORINGS:
                output = self._output(images.flip(axes)).flip(axes)
                total += output[:, window.partners] if window.partners and _X in axes else output
            total /= 1 + len(_MIRRORINGS)
        return total

    def _output(self, images: Tensor) -> Tensor:
        window = self.window
        with torch.autocast(window.device.type, window.precision, enabled=window.precision != torch.float32):
            logits = self.network(images)
        return window.to_probabilities(logits)


_X = 4
"""The axis of B K D H W that runs from the patient's right to the left."""
_MIRRORINGS = [axes for count in (1, 2, 3) for axes in itertools.combinations((2, 3, 4), count)]


class _Canvas:
    """One slab of weighted sums, which moves upwards through a box of the volume.

    `shape` is that of the box; `plane` says how large (H, W) the volume's slices are, and where (y, x) the box begins.
    """

    def __init__(
        self, shape: Shape, roi_count: int, window: SlidingWindow, plane: tuple[tuple[int, ...], tuple[int, ...]]
    ) -> None:
        self.shape, self.window, self.plane = shape, window, plane
        self.starts = [
            window_starts(length, side, window.overlap) for length, side in zip(shape, window.shape, strict=True)
        ]
        self.bottom = 0
        depth = min(window.shape[0], shape[0])
        self.sums = torch.zeros(roi_count, depth, *shape[1:], device=window.device)
        profiles = [gaussian_profile(side) for side in window.shape]
        self.weights = _outer(profiles).to(window.device)
        # Windows form a full grid and weights are products, so the sum of weights is a product of three sums too.
        self.weight_sums = [
            _summed_profile(length, profile, places)
            for length, profile, places in zip(shape, profiles, self.starts, strict=True)
        ]

    def add(self, probability: Tensor, start: Shape) -> None:
        """Add one window's probabilities, K D H W, weighted; what lies outside the box is dropped."""
        inside, target = [], []
        for first, side, length in zip(start, self.window.shape, self.shape, strict=True):
            low, high = max(first, 0), min(first + side, length)
            inside.append(slice(low - first, high - first))
            target.append(slice(low, high))
        target[0] = slice(target[0].start - self.bottom, target[0].stop - self.bottom)
        self.sums[:, *target].addcmul_(probability[:, *inside], self.weights[*inside])

    def finish_below(self, end: int) -> Slab:
        """Take out the slices below `end` (in the box), as wide as the volume, and move the slab up to it."""
        count, ((height, width), (y, x)) = end - self.bottom, self.plane
        bytes_out = np.zeros((self.sums.shape[0], count, height, width), dtype=np.uint8)
        inside = bytes_out[:, :, y : y + self.shape[1], x : x + self.shape[2]]
        depth_weights, *plane_weights = self.weight_sums
        plane = _outer(plane_weights).to(self.sums.device)
        # Slice by slice, so that no second float copy of the slab is made.
        for z in range(count):
            finished = self.sums[:, z] / (plane * float(depth_weights[self.bottom + z]))
            inside[:, z] = finished.mul_(PROBABILITY_STEPS).round_().clamp_(0, PROBABILITY_STEPS).byte().cpu()
        for z in range(self.sums.shape[1]):
            if z + count < self.sums.shape[1]:
                self.sums[:, z] = self.sums[:, z + count]
            else:
                self.sums[:, z] = 0
        slab = Slab(self.bottom, bytes_out)
        self.bottom = end
        return slab


def _summed_profile(length: int, profile: np.ndarray, starts: list[int]) -> np.ndarray:
    summed = np.zeros(length, dtype=np.float64)
    for start in starts:
        low, high = max(start, 0), min(start + len(profile), length)
        summed[low:high] += profile[low - start : high - start]
    return summed


def _outer(profiles: list[np.ndarray]) -> Tensor:
    """Product of profiles, one axis each, float32."""
    product = np.ones((), dtype=np.float64)
    for profile in profiles:
        product = np.multiply.outer(product, profile)
    return torch.from_numpy(product.astype(np.float32))
