"""Organ confusion: which share of one ROI's true voxels is predicted as another one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .case_truth import CaseTruth


class Confusion(NamedTuple):
    """Of `voxels_true` voxels of `true_roi`, `voxels_predicted` are predicted as `roi` (numbers of ROIs)."""

    roi: int
    true_roi: int
    voxels_true: int
    voxels_predicted: int


def confusion(prediction: np.ndarray, truth: CaseTruth, family: Sequence[str]) -> Iterator[Confusion]:
    """Every predicted ROI against every labelled one that the case contains.

    Parameters
    ----------
    prediction: ROI bits (unsigned, D H W).
    truth: on the same grid; only ROIs that are labelled can be confused with others.
    family: of each ROI (`case_truth.families`).

    A voxel may belong to several ROIs, as that of a tumour does to its organ. So where `roi` is labelled too, the
    voxels of `true_roi` that belong to both, or of which that is unknown, are left out; where it is not labelled, it is
    not compared with ROIs of its own family. With itself, a ROI gives its recall. A pair without voxels is left out.
    ValueError: prediction and truth differ in shape.
    """
    if prediction.shape != truth.bits.shape:
        raise ValueError(f"prediction and truth differ in shape: {prediction.shape} and {truth.bits.shape}")
    predicted, true, unknown, counts = _combinations(prediction, truth)

    def has(values: np.ndarray, roi: int) -> np.ndarray:
        return (values >> values.dtype.type(roi)) & values.dtype.type(1) == 1

    for roi in range(len(family)):
        for true_roi in truth.labelled:
            counted = has(true, true_roi) & ~has(unknown, true_roi)
            if roi != true_roi and roi in truth.labelled:
                counted &= ~has(true, roi) & ~has(unknown, roi)
            elif roi != true_roi and family[roi] == family[true_roi]:
                continue
            if voxels := int(counts[counted].sum()):
                yield Confusion(roi, true_roi, voxels, int(counts[counted & has(predicted, roi)].sum()))


def _combinations(prediction: np.ndarray, truth: CaseTruth) -> tuple[np.ndarray, ...]:
    """The distinct (predicted, true, unknown) bits of the voxels that any labelled ROI holds, and how many have each.

    Few of them occur, so counting pairs of ROIs costs nothing beside one pass over the voxels.
    """
    inside = truth.bits != 0
    unknown = np.zeros_like(truth.bits) if truth.unknown is None else truth.unknown
    arrays = [array[inside] for array in (prediction, truth.bits, unknown)]
    code = np.zeros(len(arrays[0]), np.int64)
    for array in arrays:
        values, places = np.unique(array, return_inverse=True)
        code = code * len(values) + places
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    return (*(array[first] for array in arrays), counts)
