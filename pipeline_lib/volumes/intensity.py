"""From HU to what the networks see."""

from __future__ import annotations

import numpy as np


def scaled(image: np.ndarray, window_hu: tuple[float, float]) -> np.ndarray:
    """HU (any shape) → float32 in [−1, 1]; HU outside the window are clipped to its ends."""
    low, high = window_hu
    clipped = np.clip(image.astype(np.float32), low, high)
    return (clipped - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
