"""Terms of a loss over some ROIs of some samples: their maps as rows, and the mean over each sample's ROIs.

Every term of a method's loss is one value per sample (shape B), a mean over voxels and over the ROIs that the term
selects in that sample, and exactly zero, with zero gradient, where it selects none. The training divides their sum by
the global batch size, so neither the number of processes nor gradient accumulation changes the result. The paper's
Eq. 1 to 3 are sums over the ROIs instead: there, a sample with two labelled ROIs weighs twice as much as one with a
single one, and the teacher's terms grow with the number of unlabelled ROIs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def selected_maps(maps: Tensor, selected: Tensor) -> Tensor:
    """The maps of the N selected (sample, ROI) pairs, each as one row: B K D H W and bool B K → N V."""
    return maps.flatten(0, 1).flatten(1).index_select(0, selected.flatten().nonzero().squeeze(1))


def with_known_voxels(labelled: Tensor, known: Tensor | None) -> Tensor:
    """The labelled ROIs of which some voxel is known; the others count as unlabelled. bool B K, bool B K D H W → B K.

    `known` is None where all voxels of labelled ROIs are.
    """
    return labelled if known is None else labelled & known.flatten(2).any(2)


def labelled_throughout(labelled: Tensor, known: Tensor | None) -> Tensor:
    """The labelled ROIs of which every voxel is known: bool B K, and bool B K D H W or None as above → B K."""
    return labelled if known is None else labelled & known.flatten(2).all(2)


def told_voxels(labelled: Tensor, known: Tensor | None) -> Tensor:
    """Where labels say something of a ROI: bool B K and bool B K D H W, or None as above → B K D H W, or B K 1 1 1."""
    return labelled[:, :, None, None, None] if known is None else known


def mean_over_voxels(values: Tensor, where: Tensor | None) -> Tensor:
    """Mean of each row of `values` N V over the voxels `where` (bool N V, some in each row; None: all) → N."""
    if where is None:
        return values.mean(1)
    return values.where(where, 0).sum(1) / where.sum(1)


def mean_over_voxels_and_rois(values: Tensor, selected: Tensor, where: Tensor | None) -> Tensor:
    """Mean of `values` (N V, a row per selected pair) over all voxels and ROIs of each sample → B; 0 where none is.

    With `where` (bool B K D H W) over these voxels alone, each of the same weight: a ROI that is open at few voxels
    counts for little.
    """
    if where is None:
        return mean_over_rois(values.mean(1), selected)
    chosen = selected_maps(where, selected)
    sums = torch.stack([values.where(chosen, 0).sum(1), chosen.sum(1).to(values.dtype)])
    totals, voxels = torch.zeros(2, len(selected), dtype=values.dtype, device=values.device).index_add(
        1, selected.nonzero()[:, 0], sums
    )
    return totals / voxels.clamp(min=1)


def mean_over_rois(values: Tensor, selected: Tensor) -> Tensor:
    """Mean of `values` (one per selected pair, in order) over the ROIs of each sample → B; 0 where none is selected."""
    return sum_over_rois(values, selected) / selected.sum(1).clamp(min=1)


def sum_over_rois(values: Tensor, selected: Tensor) -> Tensor:
    """Sum of `values` (one per selected pair, in order) over the ROIs of each sample → B."""
    samples = selected.nonzero()[:, 0]
    return torch.zeros(len(selected), dtype=values.dtype, device=values.device).index_add(0, samples, values)
