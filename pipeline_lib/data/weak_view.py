"""The weak view x_T: flips and zoom of image and labels alike, and light noise ([LC], "Views").

What is drawn for a sample is keyed by (seed, sample), so any process, worker or resumed run draws the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..config.augmentation import WeakView
from ..randomness import key_number, random_generator
from .crops import Shape


@dataclass(frozen=True)
class WeakDraw:
    """What the weak view does to one sample; `axes` are the mirrored ones of D, H, W."""

    axes: tuple[int, ...]
    zoom: float
    noise: float


def draw_weak(view: WeakView, seed: int, sample: int) -> WeakDraw:
    random = random_generator("weak view", seed, sample)
    mirrored = random.random(3) < np.array(view.flip_probability[::-1])
    zoomed, noisy = random.random(2) < (view.zoom_probability, view.noise_probability)
    zoom, noise = random.uniform(*view.zoom_range), random.uniform(*view.noise_std)
    axes = tuple(int(axis) for axis in np.flatnonzero(mirrored))
    return WeakDraw(axes, float(zoom) if zoomed else 1.0, float(noise) if noisy else 0.0)


def region_to_read(start: NDArray[np.int64], patch: Shape, zoom: float) -> tuple[Shape, Shape]:
    """First index and shape of the region that fills the patch once it is enlarged by `zoom` about its centre."""
    shape = [max(1, round(side / zoom)) for side in patch]
    first = [int(begin) + (side - read) // 2 for begin, side, read in zip(start, patch, shape, strict=True)]
    return _three(first), _three(shape)


def weak_image(image: Tensor, draw: WeakDraw, patch: Shape, noise: torch.Generator) -> Tensor:
    """x_T of one sample, float32 D H W of shape `patch`, from its region's intensities (float32 D' H' W' in −1…1)."""
    if image.shape != patch:
        image = F.interpolate(image[None, None], size=patch, mode="trilinear", align_corners=False)[0, 0]
    image = image.flip(draw.axes) if draw.axes else image
    if draw.noise:
        image = image + draw.noise * torch.randn(patch, generator=noise, device=image.device)
    return image


def weak_codes(codes: Tensor, draw: WeakDraw, patch: Shape) -> Tensor:
    """Label codes of x_T, D H W, from those of its region: the nearest voxel's, mirrored like the image."""
    for axis, side in enumerate(patch):
        read = codes.shape[axis]
        if read != side:
            nearest = ((torch.arange(side, device=codes.device) + 0.5) * (read / side)).long()
            codes = codes.index_select(axis, nearest.clamp_(max=read - 1))
    return codes.flip(draw.axes) if draw.axes else codes


def noise_generator(device: torch.device, *key: str | int) -> torch.Generator:
    """A generator of noise fields on `device`, keyed like all random numbers."""
    return torch.Generator(device).manual_seed(key_number(*key) % 2**63)


def _three(values: list[int]) -> Shape:
    first, second, third = values
    return first, second, third
