"""CutMix across data sets: a box of one sample's image, labels and pseudo labels in place of another's.

Yun et al.: "CutMix", ICCV 2019; between data sets, Jiang et al., Medical Image Analysis, 2025 (LTUDA). Rivals that no
data set labels together so lie side by side in one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.crops import Shape
from ..errors import UserError
from ..randomness import random_generator

_SHARES = (0.02, 0.4)
"""Of the image, as in LTUDA: there of a slice's area, here of a patch's volume."""
_LONGEST = 1 / 0.3
"""A side, as a share of the patch's, is at most so many times as long as the first, and at least 0.3 times."""


def draw_box(shape: Shape, seed: int, sample: int, view: int) -> tuple[slice, slice, slice]:
    """A box inside a patch of `shape`, keyed by (seed, sample, view).

    Its share of the patch is uniform in 0.02…0.4 and the ratios of its sides are uniform in 0.3…1/0.3, both before
    sides are rounded to voxels; boxes longer than the patch are drawn again. Its place is uniform.
    """
    random = random_generator("cutmix", seed, sample, view)
    while True:
        ratios = np.array([1.0, *random.uniform(1 / _LONGEST, _LONGEST, 2)])
        shares = ratios * (random.uniform(*_SHARES) / ratios.prod()) ** (1 / 3)
        if shares.max() <= 1:
            break
    sides = np.maximum(1, np.rint(shares * shape).astype(int))
    starts = random.integers(0, np.subtract(shape, sides), endpoint=True)
    depth, height, width = (slice(int(start), int(start + side)) for start, side in zip(starts, sides, strict=True))
    return depth, height, width


def box_masks(shape: Shape, seed: int, samples: Sequence[int], view: int, device: torch.device) -> Tensor:
    """The boxes of `samples` as bool B 1 D H W."""
    masks = torch.zeros(len(samples), 1, *shape, dtype=torch.bool, device=device)
    for mask, sample in zip(masks, samples, strict=True):
        mask[0][draw_box(shape, seed, sample, view)] = True
    return masks


def partners(values: Tensor) -> Tensor:
    """For each sample what the next one has, for the last the first; UserError if there is one alone.

    The next is that of the samples that are computed together, so the number of processes and accumulation decide who
    is mixed with whom.
    """
    if len(values) == 1:
        wrong = "leaves samples that are computed one at a time, and mixing needs two"
        raise UserError("segmentation.batch_size", wrong, "raise it, or lower `execution.gradient_accumulation_steps`")
    return values.roll(-1, 0)


def mixed(values: Tensor, box: Tensor) -> Tensor:
    """`values` B C D H W with those of each sample's partner inside its `box`, bool B 1 D H W."""
    return torch.where(box, partners(values), values)
