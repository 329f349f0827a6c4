"""The voxels of mixed samples that prototypes see: what they are taught to be, and whether a label says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ...data.batches import Batch
from ...data.crops import Shape
from ...randomness import random_generator
from ..cutmix import partners
from ..leaves import Leaves, allowed_leaves
from ..roi_maps import told_voxels

Places = tuple[Tensor, Tensor, Tensor]
"""Coordinates along D, H and W, int64 B V each."""


@dataclass(frozen=True, eq=False)
class DrawnVoxels:
    """V voxels of one mixed copy of each sample.

    `classes` (int64 B V) are the leaves that they are taught to be, −1 where the targets are no leaf, since labels
    overlap that should not. `in_label` (bool B V): inside a ROI that is labelled.
    """

    places: Places
    classes: Tensor
    in_label: Tensor

    @classmethod
    def of(cls, batch: Batch, targets: Tensor, leaves: Leaves, box: Tensor, places: Places) -> Self:
        """Those at `places` of the samples that are mixed in the `box` (bool B 1 D H W); `targets` bool B K D H W."""
        samples = torch.arange(len(targets), device=targets.device)
        inside = box[(samples[:, None], 0, *places)]
        sources = torch.where(inside, partners(samples)[:, None], samples[:, None])
        labelled = (batch.labels & told_voxels(batch.labelled, batch.known)).any(1)
        return cls(places, classes_of(at_voxels(targets, sources, places), leaves), labelled[(sources, *places)])

    @classmethod
    def joined(cls, views: Sequence[Self]) -> Self:
        """The voxels of all mixed copies, one view's samples after another's: (views·B) V."""
        depth, height, width = (torch.cat(axes) for axes in zip(*(view.places for view in views), strict=True))
        classes = torch.cat([view.classes for view in views])
        return cls((depth, height, width), classes, torch.cat([view.in_label for view in views]))


def drawn_places(
    shape: Shape, count: int, seed: int, samples: Sequence[int], view: int, device: torch.device
) -> Places:
    """`count` different voxels of a patch of `shape` for each sample, keyed by (seed, sample, view); at most all."""
    voxels = int(np.prod(shape))
    if count >= voxels:
        flat = np.tile(np.arange(voxels), (len(samples), 1))
    else:
        draws = (random_generator("prototype voxels", seed, sample, view) for sample in samples)
        flat = np.stack([draw.choice(voxels, count, replace=False, shuffle=False) for draw in draws])
    depth, height, width = (torch.from_numpy(axis).to(device) for axis in np.unravel_index(flat, shape))
    return depth, height, width


def at_voxels(maps: Tensor, rows: Tensor, places: Places) -> Tensor:
    """The values of `maps` … C D H W in their `rows` (int64 B V) at `places`: B V C."""
    depth, height, width = places
    return maps[rows, :, depth, height, width]


def classes_of(targets: Tensor, leaves: Leaves) -> Tensor:
    """The leaf that has exactly the ROIs that a voxel is taught to be in: bool B V K → int64 B V, −1 if none has."""
    rows = targets.flatten(0, 1)
    found = allowed_leaves(rows[:, :, None, None, None], torch.ones_like(rows), leaves).flatten(1)
    # Where no leaf agrees all are allowed.
    classes = torch.where(found.sum(1) == 1, found.to(torch.uint8).argmax(1), -1)
    return classes.unflatten(0, targets.shape[:2])
