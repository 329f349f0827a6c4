"""The weak view x_T: flips and zoom of image and labels alike, and light noise.

[LC] names no transform, only "spatial and intensity". Flips and zoom are DoDNet's: each axis is flipped with its own
probability, and the side of the region that is resized to the patch is drawn uniformly. Image regions are resized
trilinearly, labels to the nearest voxel, as in DoDNet (which also smooths images slightly before shrinking them). The
noise is our own.

What is drawn for a sample is keyed by (seed, sample), so every process, worker and resumed run draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..config.augmentation import WeakView
from ..geometry import triple
from ..randomness import key_number, random_generator
from .crops import Shape

_X = 2
"""The axis of D, H, W that runs from the patient's right to the left."""


@dataclass(frozen=True)
class WeakDraw:
    """The weak view of one sample: flipped `axes` (of D, H, W), magnification, standard deviation of the noise."""

    axes: tuple[int, ...]
    zoom: float
    noise: float

    @property
    def exchanges_sides(self) -> bool:
        """Whether it is flipped along x, the patient's right to left."""
        return _X in self.axes


def draw_weak(view: WeakView, seed: int, sample: int) -> WeakDraw:
    random = random_generator("weak view", seed, sample)
    flipped = random.random(3) < np.array(view.flip_probability[::-1])
    zoomed, noisy = random.random(2) < (view.zoom_probability, view.noise_probability)
    # Like DoDNet, which draws the side of the region that it resizes to the patch.
    lowest, highest = view.zoom_range
    zoom, noise = 1 / random.uniform(1 / highest, 1 / lowest), random.uniform(*view.noise_std)
    axes = tuple(int(axis) for axis in np.flatnonzero(flipped))
    return WeakDraw(axes, float(zoom) if zoomed else 1.0, float(noise) if noisy else 0.0)


def region_to_read(start: NDArray[np.int64], patch: Shape, zoom: float) -> tuple[Shape, Shape]:
    """First index and shape of the region that fills the patch once it is enlarged by `zoom` about its centre."""
    shape = [max(1, round(side / zoom)) for side in patch]
    first = [int(begin) + (side - read) // 2 for begin, side, read in zip(start, patch, shape, strict=True)]
    return triple(first), triple(shape)


def weak_image(image: Tensor, draw: WeakDraw, patch: Shape, noise: torch.Generator) -> Tensor:
    """x_T of one sample, float32 D H W of shape `patch`, from its region's intensities (float32 D' H' W' in −1…1)."""
    if image.shape != patch:
        image = F.interpolate(image[None, None], size=patch, mode="trilinear", align_corners=False)[0, 0]
    image = image.flip(draw.axes) if draw.axes else image
    if draw.noise:
        image = image + draw.noise * torch.randn(patch, generator=noise, device=image.device)
    return image


def weak_codes(codes: Tensor, draw: WeakDraw, patch: Shape) -> Tensor:
    """Label codes of x_T, D H W, from those of its region: the nearest voxel's, flipped like the image."""
    for axis, side in enumerate(patch):
        read = codes.shape[axis]
        if read != side:
            nearest = ((torch.arange(side, device=codes.device) + 0.5) * (read / side)).long()
            codes = codes.index_select(axis, nearest.clamp_(max=read - 1))
    return codes.flip(draw.axes) if draw.axes else codes


def noise_generator(device: torch.device, *key: str | int) -> torch.Generator:
    """A generator of noise fields on `device`, keyed like all random numbers."""
    return torch.Generator(device).manual_seed(key_number(*key) % 2**63)
