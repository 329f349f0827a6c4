"""Pooled patches as they are, without augmentation: for scoring and for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import triple
from ..label_bits import unpack
from ..volumes.store import Volume
from .batches import scaled
from .crops import Shape


def patch_images(
    volume: Volume, starts: NDArray[np.int64], shape: Shape, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Images of the patches at `starts` (N × 3), float32 B 1 D H W in −1…1, B ≤ `batch_size`.

    The next batch is read while the caller works on this one.
    """

    def read(first: int) -> NDArray[np.int16]:
        return np.stack([volume.read_image(triple(start), shape) for start in starts[first : first + batch_size]])

    with ThreadPoolExecutor(1) as ahead:
        firsts = range(0, len(starts), batch_size)
        coming = ahead.submit(read, 0)
        for first in firsts:
            images = coming.result()
            if first + batch_size < len(starts):
                coming = ahead.submit(read, first + batch_size)
            yield scaled(torch.from_numpy(images).to(device), volume.record.window_hu)[:, None]


def voxels_in_patches(volume: Volume, starts: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """How many voxels each of the volume's targets has in each patch, N × targets."""
    bits = unpack(volume.combinations, len(volume.record.targets), axis=1).astype(np.int64)
    counts = np.zeros((len(starts), bits.shape[1]), np.int64)
    for patch, start in enumerate(starts):
        codes = volume.read_codes(triple(start), shape)
        counts[patch] = np.bincount(codes.ravel(), minlength=len(bits)) @ bits
    return counts


def presence_in_patches(
    volume: Volume, starts: NDArray[np.int64], shape: Shape, least_voxels: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each patch holds at least so many voxels of each target, and whether its labels tell, N × targets each.

    They do not tell of a target that the case does not label, nor of one with too few known and some unknown voxels.
    """
    present = voxels_in_patches(volume, starts, shape) >= least_voxels
    known = np.broadcast_to(np.isin(volume.record.targets, volume.record.labelled), present.shape)
    if not len(volume.unknown):
        return present, known
    is_open = unpack(volume.unknown, present.shape[1], axis=1).astype(bool)
    codes_of = (np.unique(volume.read_codes(triple(start), shape)) for start in starts)
    some_open = np.stack([is_open[codes].any(axis=0) for codes in codes_of])
    return present, known & (present | ~some_open)
