"""The strong view x_S: further intensity changes on x_T, DoDNet's list in DoDNet's order.

[LC] says only that x_S is x_T after further intensity changes. The list, the order, the ranges and the probabilities
are those of DoDNet's `get_train_transform`, computed as batchgenerators does. batchgenerators draws blur, shift and low
resolution once per sample and once more per channel; CT has one channel, so DoDNet's effective probabilities are half
of those that it writes: 0.1, 0.075 and 0.125, the defaults here.

Equal to DoDNet's: noise, brightness, shift, contrast (drawn uniformly here; DoDNet draws half of its factors below 1
and half above, which is the same for a range that is symmetric about 1) and gamma, which keeps mean and standard
deviation. Different: blur is cut at 3 σ and mirrored at the border (scipy, which DoDNet uses: 4 σ, with the edge voxel
repeated); low resolution is interpolated back linearly, as in nnU-Net v2 (DoDNet: by cubic splines).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.augmentation import StrongView
from ..randomness import random_generator

_MIN_RANGE = 1e-6
"""Intensity range below which a patch counts as flat: a gamma curve needs a range to act on."""

_MIN_STD = 1e-8
"""Added to a standard deviation that is divided by, as in batchgenerators."""


@dataclass(frozen=True)
class StrongDraw:
    """What the strong view does to one sample; a value that changes nothing stands for a change that is not made."""

    noise: float = 0.0
    blur_sigma: float = 0.0
    brightness: float = 1.0
    shift: float = 0.0
    contrast: float = 1.0
    resolution: float = 1.0
    gamma: float = 1.0


def draw_strong(view: StrongView, seed: int, sample: int) -> StrongDraw:
    random = random_generator("strong view", seed, sample)

    def drawn(probability: float, value: float, unchanged: float) -> float:
        return value if random.random() < probability else unchanged

    def gamma() -> float:
        low, high = view.gamma_range
        if low < 1 < high:
            # Half of the draws are below 1 and half above, however long the two parts of the range are.
            low, high = (low, 1.0) if random.random() < 0.5 else (1.0, high)
        return random.uniform(low, high)

    return StrongDraw(
        noise=drawn(view.noise_probability, random.uniform(*view.noise_std), 0.0),
        blur_sigma=drawn(view.blur_probability, random.uniform(*view.blur_sigma_voxels), 0.0),
        brightness=drawn(view.brightness_probability, random.uniform(*view.brightness_range), 1.0),
        shift=drawn(view.shift_probability, random.normal(0.0, view.shift_std), 0.0),
        contrast=drawn(view.contrast_probability, random.uniform(*view.contrast_range), 1.0),
        resolution=drawn(view.low_resolution_probability, random.uniform(*view.low_resolution_range), 1.0),
        gamma=drawn(view.gamma_probability, gamma(), 1.0),
    )


def strong_image(image: Tensor, draw: StrongDraw, noise: torch.Generator) -> Tensor:
    """x_S of one sample from its x_T, both float32 D H W around −1…1."""
    if draw.noise:
        image = image + draw.noise * torch.randn(image.shape, generator=noise, device=image.device)
    if draw.blur_sigma:
        image = _blurred(image, draw.blur_sigma)
    if draw.brightness != 1 or draw.shift:
        image = image * draw.brightness + draw.shift
    if draw.contrast != 1:
        image = _with_contrast(image, draw.contrast)
    if draw.resolution != 1:
        image = _at_low_resolution(image, draw.resolution)
    if draw.gamma != 1:
        image = _with_gamma(image, draw.gamma)
    return image


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, one axis after another, mirrored at the border and cut at 3 σ."""
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(3):
        rows = image.movedim(axis, -1)
        padded = F.pad(rows.reshape(1, -1, rows.shape[-1]), (radius, radius), mode="reflect")
        windows = padded.reshape(-1, 1, padded.shape[-1])
        image = F.conv1d(windows, kernel[None, None]).reshape(rows.shape).movedim(-1, axis)
    return image


def _with_contrast(image: Tensor, factor: float) -> Tensor:
    """Distances to the mean times `factor`, kept within the range that the patch had."""
    mean, low, high = image.mean(), image.amin(), image.amax()
    return ((image - mean) * factor + mean).clamp(low, high)


def _at_low_resolution(image: Tensor, share: float) -> Tensor:
    """The image sampled at `share` of its resolution (nearest voxel) and interpolated back linearly."""
    coarse = [max(1, round(side * share)) for side in image.shape]
    sampled = F.interpolate(image[None, None], size=coarse, mode="nearest-exact")
    return F.interpolate(sampled, size=image.shape, mode="trilinear", align_corners=False)[0, 0]


def _with_gamma(image: Tensor, exponent: float) -> Tensor:
    """A gamma curve over the range of the patch, then shifted and scaled to the mean and deviation that it had."""
    low, high = image.amin(), image.amax()
    mean, std = image.mean(), image.std(correction=0)
    extent = (high - low).clamp(min=_MIN_RANGE)
    curved = ((image - low) / extent).clamp(0, 1).pow(exponent) * extent + low
    return (curved - curved.mean()) / (curved.std(correction=0) + _MIN_STD) * std + mean
