"""Lesions counted by flooding from voxel to voxel."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.config.rois import is_lesion
from pipeline_lib.scoring.lesions import Detection, detect


def components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Sets of voxels that touch by a face, an edge or a corner."""
    left = {tuple(int(part) for part in voxel) for voxel in np.argwhere(mask)}
    found = []
    while left:
        component, front = set(), [left.pop()]
        while front:
            voxel = front.pop()
            component.add(voxel)
            for step in itertools.product((-1, 0, 1), repeat=3):
                neighbour = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if neighbour in left:
                    left.remove(neighbour)
                    front.append(neighbour)
        found.append(component)
    return found


@given(st.integers(0, 10**6), st.floats(0.0, 0.25))
def test_detection_equals_flooding(seed, share):
    rng = np.random.default_rng(seed)
    prediction, truth = rng.random((5, 6, 4)) < share, rng.random((5, 6, 4)) < share / 2
    true_lesions, predicted_lesions = components(truth), components(prediction)
    assert detect(prediction, truth) == Detection(
        lesions=len(true_lesions),
        found=sum(any(prediction[voxel] for voxel in lesion) for lesion in true_lesions),
        predicted=len(predicted_lesions),
        false=sum(not any(truth[voxel] for voxel in lesion) for lesion in predicted_lesions),
    )


@pytest.mark.parametrize("roi", ["liver_tumor", "colon_cancer", "LungTumour", "brain_metastases"])
def test_tumours_are_lesions(roi):
    assert is_lesion(roi)


@pytest.mark.parametrize("roi", ["liver", "hepatic_vessel", "spleen"])
def test_organs_are_not(roi):
    assert not is_lesion(roi)
