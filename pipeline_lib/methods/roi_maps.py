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


def mean_over_rois(values: Tensor, selected: Tensor) -> Tensor:
    """Mean of `values` (one per selected pair, in order) over the ROIs of each sample → B; 0 where none is selected."""
    return sum_over_rois(values, selected) / selected.sum(1).clamp(min=1)


def sum_over_rois(values: Tensor, selected: Tensor) -> Tensor:
    """Sum of `values` (one per selected pair, in order) over the ROIs of each sample → B."""
    samples = selected.nonzero()[:, 0]
    return torch.zeros(len(selected), dtype=values.dtype, device=values.device).index_add(0, samples, values)
