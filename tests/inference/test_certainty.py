"""Certainty of a mask, against a sum over voxels one by one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline_lib.inference.certainty import certainty


def naive(probability: np.ndarray) -> float:
    """2 Σ_M p / (|M| + Σ p)."""
    inside = voxels = mass = 0.0
    for byte in probability.ravel().tolist():
        mass += byte / 255
        if byte >= 128:
            inside += byte / 255
            voxels += 1
    return 2 * inside / (voxels + mass)


def test_it_is_the_soft_dice_of_mask_and_probabilities():
    random = np.random.default_rng(3)
    probability = random.integers(0, 256, (3, 5, 4), np.uint8)
    probability[random.random(probability.shape) < 0.5] = 0
    assert certainty(probability) == pytest.approx(naive(probability), rel=1e-12)
    # A slice without anything, as most are, and an array that is not contiguous.
    probability[1] = 0
    assert certainty(probability[:, ::2]) == pytest.approx(naive(probability[:, ::2]), rel=1e-12)


def test_a_sharp_mask_has_certainty_1_and_a_blurred_one_less():
    probability = np.zeros((4, 4, 4), np.uint8)
    probability[1:3, 1:3, 1:3] = 255
    assert certainty(probability) == 1
    blurred = probability.copy()
    blurred[3] = 100
    assert certainty(blurred) < 1
    unsure = np.where(probability > 0, 140, 0).astype(np.uint8)
    assert certainty(unsure) < 1


def test_an_empty_mask_has_none():
    assert certainty(np.full((2, 2, 2), 127, np.uint8)) is None
    assert certainty(np.zeros((0, 2, 2), np.uint8)) is None
