"""Detection of tumours: which lesions a prediction finds, and which predicted lesions are false."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_TOUCHING_CORNERS = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class Detection:
    """Lesions of one ROI in one case; a lesion is a 26-connected component."""

    lesions: int
    found: int
    predicted: int
    false: int


def detect(prediction: np.ndarray, truth: np.ndarray) -> Detection:
    """Count lesions (bool masks, D H W).

    A true lesion is found if the prediction covers any voxel of it; a predicted lesion is false if it covers no voxel
    of a true one. So one large predicted lesion may find several true ones: how well they overlap is up to Dice.
    """
    true_components, lesions = ndimage.label(truth, structure=_TOUCHING_CORNERS)
    predicted_components, predicted = ndimage.label(prediction, structure=_TOUCHING_CORNERS)
    common = prediction & truth
    return Detection(
        lesions=lesions,
        found=len(np.unique(true_components[common])),
        predicted=predicted,
        false=predicted - len(np.unique(predicted_components[common])),
    )
