"""Dice of a network on one volume whose labels are in the store: predicted and counted slab by slab."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import nn

from ..label_bits import unpack
from ..scoring.dice import Overlap, dice
from ..volumes.resampling import FOREGROUND
from ..volumes.store import Volume
from .sliding_window import Slab, SlidingWindow, predict_slabs


def case_dice(
    network: nn.Module,
    volume: Volume,
    rois: Sequence[str],
    window: SlidingWindow,
    on_windows: Callable[[int], None] = lambda count: None,
) -> dict[str, float]:
    """Dice, 2TP/(P+G), of each ROI that the case labels and contains, on the volume's grid.

    A ROI that is absent is left out, whatever is predicted, so that each validation is a mean over the same cases.
    Voxels where a ROI is unknown are left out of it. `rois` are the network's K outputs, which are the volume's
    targets. Neither probabilities nor labels of the whole volume are ever in memory.
    """
    labelled = [index for index, roi in enumerate(rois) if roi in volume.record.labelled]
    has_roi = unpack(volume.combinations, len(rois), axis=1).astype(bool)
    known = np.ones_like(has_roi)
    if len(volume.unknown):
        known = ~unpack(volume.unknown, len(rois), axis=1).astype(bool)
    # Voxels of each label code, in all and per ROI where that is predicted: they say what lies there and is known.
    of_code = np.zeros(len(has_roi), np.int64)
    predicted = np.zeros((len(labelled), len(has_roi)), np.int64)
    for slab in predict_slabs(network, volume.read_image, volume.shape, len(rois), window, on_windows):
        _count(slab, volume, labelled, of_code, predicted)
    found = {}
    for index, codes in zip(labelled, predicted, strict=True):
        counts = Overlap(
            true_positive=int(codes[has_roi[:, index] & known[:, index]].sum()),
            predicted=int(codes[known[:, index]].sum()),
            truth=int(of_code[has_roi[:, index] & known[:, index]].sum()),
        )
        if counts.truth:
            found[rois[index]] = dice(counts, "nnunet")
    return found


def _count(slab: Slab, volume: Volume, labelled: Sequence[int], of_code: np.ndarray, predicted: np.ndarray) -> None:
    """Add a slab's voxels to the counts, slice by slice: counting makes 8 bytes of each voxel's code."""
    depth, *plane = slab.probabilities.shape[1:]
    codes = volume.read_codes((slab.start, 0, 0), (depth, *plane))
    for z in range(depth):
        of_code += np.bincount(codes[z].ravel(), minlength=len(of_code))
        for row, index in zip(predicted, labelled, strict=True):
            row += np.bincount(codes[z][slab.probabilities[index, z] >= FOREGROUND], minlength=len(of_code))
