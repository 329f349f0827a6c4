"""The soft Dice loss of Eq. 1, in the forms that are being compared."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..config.method_settings import DiceForm


class Smoothing(NamedTuple):
    """Voxels added to the numerator and to the denominator of the soft Dice."""

    numerator: float
    denominator: float


DICE_FORMS: dict[DiceForm, Smoothing] = {
    "published": Smoothing(0.0, 1.0),
    "smoothed": Smoothing(1.0, 1.0),
    "smoothed_100": Smoothing(100.0, 100.0),
    "batch": Smoothing(1e-5, 1e-5),
    "present": Smoothing(0.0, 1.0),
}
"""How each form smooths. With smoothing in the numerator too, an absent ROI pulls all its probabilities to zero."""


def dice_loss(probabilities: Tensor, truth: Tensor, labelled: Tensor, form: DiceForm) -> Tensor:
    """1 − soft Dice of each labelled (sample, ROI) pair: N V, N V and bool B K (N true) → N.

    The soft Dice is (2·Σpy + a) / (Σp + Σy + b), summed over the whole patch, with a and b from `DICE_FORMS`.
    `published` is that of DoDNet's and of the Universal Model's code: with b alone, an absent ROI costs a constant 1
    and has no gradient. (The Universal Model's code applies it to each slab of the first axis; here it is computed over
    the whole patch, as in DoDNet's code.) `batch` sums over the samples too, as nnU-Net does, but only over those that
    are computed together: its result depends on accumulation and on the number of processes.
    """
    overlap = (probabilities * truth).sum(1)
    size = probabilities.sum(1) + truth.sum(1)
    if form == "batch":
        rois = labelled.nonzero()[:, 1]
        overlap, size = (_summed_by_roi(each, rois, labelled.shape[1]) for each in (overlap, size))
    smoothing = DICE_FORMS[form]
    return 1 - (2 * overlap + smoothing.numerator) / (size + smoothing.denominator)


def _summed_by_roi(values: Tensor, rois: Tensor, count: int) -> Tensor:
    """Sums of `values` (N) over all pairs of the same ROI, one for each pair."""
    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, rois, values)[rois]
