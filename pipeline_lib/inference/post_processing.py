"""What may be done to a prediction after the network: named per ROI in the config, and nothing by default."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..volumes.resampling import FOREGROUND


def largest_part(probability: np.ndarray) -> np.ndarray:
    """Probabilities (uint8 D H W) with all foreground but its largest part set to 0.

    Voxels that touch with a face, an edge or a corner belong to one part.
    """
    foreground = probability >= FOREGROUND
    boxes = ndimage.find_objects(foreground.view(np.int8))
    if not boxes:
        return probability
    parts, count = ndimage.label(foreground[boxes[0]], np.ones((3, 3, 3)))
    if count > 1:
        largest = 1 + np.argmax(np.bincount(parts.ravel())[1:])
        probability = probability.copy()
        probability[boxes[0]][(parts > 0) & (parts != largest)] = 0
    return probability
