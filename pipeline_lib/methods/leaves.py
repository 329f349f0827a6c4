"""One softmax over the sets of ROIs that a voxel can be in: no voxel belongs to two organs.

A leaf is such a set: ROIs of which no two are rivals (exclusive_organs.py). The first leaf is empty, the background.
From the network's K logits a leaf has the logit z = Σ a_k over its ROIs, and one softmax runs over the leaves. It is
the distribution of K independent sigmoids, given that rivals exclude each other: if no ROI has a rival, P_k = σ(a_k) as
in every other method; if all are rivals, it is the plain softmax over K classes and a background whose logit is 0. The
published losses have the latter; the sum over ROIs of one organ is ours.

Below, `z` are the leaves' logits, B L D H W in at least float32. A voxel's allowed leaves are those that agree with its
labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from ..networks.probabilities import at_least_float32
from .exclusive_organs import Rivals
from .roi_maps import told_voxels

Leaves = tuple[tuple[int, ...], ...]
"""The ROIs of each of L leaves, in increasing order; each leaf stands behind those that it contains."""

_MOST_LEAVES = 256
"""One map each at full resolution; as many as eight ROIs of one organ have."""


def leaves_of(rivals: Rivals) -> Leaves:
    """Every set of ROIs that a voxel can be in; `rivals` are those of each ROI. UserError if they are too many."""
    found: list[tuple[int, ...]] = [()]
    # The list grows while it is read: each leaf is followed by those that one ROI more makes of it.
    for leaf in found:
        for roi in range(leaf[-1] + 1 if leaf else 0, len(rivals)):
            if not set(rivals[roi]) & set(leaf):
                found.append((*leaf, roi))
        if len(found) > _MOST_LEAVES:
            wrong = f"more than {_MOST_LEAVES} sets of them can share a voxel, too many to tell apart"
            raise UserError("rois", wrong, "give ROIs that exclude each other different `structures`")
    return tuple(found)


def leaf_logits(logits: Tensor, leaves: Leaves) -> Tensor:
    """The leaves' logits from those of the ROIs: B K D H W → B L D H W."""
    of_rois = at_least_float32(logits)
    # Not a matrix product: autocast would compute that in half precision.
    z: dict[tuple[int, ...], Tensor] = {(): torch.zeros_like(of_rois[:, 0])}
    for leaf in leaves[1:]:
        z[leaf] = z[leaf[:-1]] + of_rois[:, leaf[-1]]
    return torch.stack([z[leaf] for leaf in leaves], 1)


def roi_logits(z: Tensor, leaves: Leaves) -> Tensor:
    """The logit of each ROI's probability, P_k = the sum over the leaves that contain it: B L D H W → B K D H W.

    log P − log(1 − P) is the difference of two log-sums of exponentials, which neither over- nor underflows.
    """
    inside = _leaves_with(leaves)
    outside = [sorted(set(range(len(leaves))) - set(own)) for own in inside]
    found = [z[:, own].logsumexp(1) - z[:, rest].logsumexp(1) for own, rest in zip(inside, outside, strict=True)]
    return torch.stack(found, 1)


def roi_probabilities(z: Tensor, leaves: Leaves) -> Tensor:
    """The probability of each ROI: B L D H W → B K D H W."""
    p = z.softmax(1)
    return torch.stack([p[:, own].sum(1) for own in _leaves_with(leaves)], 1)


def allowed_leaves(labels: Tensor, labelled: Tensor, leaves: Leaves, known: Tensor | None = None) -> Tensor:
    """Which leaves agree with a voxel's labels: bool B K D H W and bool B K → bool B L D H W.

    A leaf does if of the labelled ROIs it contains exactly those that are labelled at the voxel. Labels of unlabelled
    ROIs are never read. Where no leaf agrees, since labels overlap that should not, all are allowed: such a voxel says
    nothing. With `known` (bool B K D H W) a ROI is unlabelled wherever its label is not known.
    """
    told = told_voxels(labelled, known)
    present, absent = labels & told, ~labels & told
    wanted = present.sum(1, dtype=torch.int16)
    hits: dict[tuple[int, ...], Tensor] = {(): torch.zeros_like(wanted)}
    wrong: dict[tuple[int, ...], Tensor] = {(): torch.zeros_like(present[:, 0])}
    for leaf in leaves[1:]:
        hits[leaf] = hits[leaf[:-1]] + present[:, leaf[-1]]
        wrong[leaf] = wrong[leaf[:-1]] | absent[:, leaf[-1]]
    allowed = torch.stack([(hits[leaf] == wanted) & ~wrong[leaf] for leaf in leaves], 1)
    return allowed | ~allowed.any(1, keepdim=True)


def marginal_cross_entropy(z: Tensor, allowed: Tensor, known: Tensor | None = None) -> Tensor:
    """−log of the probability of all allowed leaves together, mean over the voxels: B L D H W, bool B L D H W → B.

    With `known` (bool B K D H W) it is over the voxels at which the label of some ROI is known; 0 without any.
    """
    agreeing = z.masked_fill(~allowed, -torch.inf).logsumexp(1)
    costs = (z.logsumexp(1) - agreeing).flatten(1)
    if known is None:
        return costs.mean(1)
    counted = known.any(1).flatten(1)
    return costs.where(counted, 0).sum(1) / counted.sum(1).clamp(min=1)


def _leaves_with(leaves: Leaves) -> list[list[int]]:
    """For each ROI, the places of the leaves that contain it."""
    rois = 1 + max(leaf[-1] for leaf in leaves if leaf)
    return [[place for place, leaf in enumerate(leaves) if roi in leaf] for roi in range(rois)]
