"""Dice of a case, counted slab by slab, against masks of the whole volume."""

import numpy as np
import pytest
import torch

from pipeline_lib.inference.case_dice import case_dice
from pipeline_lib.inference.sliding_window import SlidingWindow, predict_slabs
from pipeline_lib.volumes.store import open_volume
from tests.support.synthetic import WINDOW, case_masks, write_masks

ROIS = ("liver", "liver_tumor", "spleen", "pancreas")
SHAPE = (37, 30, 33)


class ByBrightness(torch.nn.Module):
    """Each ROI lies, to the network, where the image is brighter than a threshold of its own."""

    def forward(self, image):
        return torch.cat([20 * (image - threshold) for threshold in (-0.4, -0.2, 0.0, 0.1)], dim=1)


def window(overlap: float) -> SlidingWindow:
    return SlidingWindow((16, 12, 16), overlap, 2, False, WINDOW, torch.device("cpu"), torch.float32)


def written(folder, labelled, with_unknown: bool, seed: int):
    random = np.random.default_rng(seed)
    masks = case_masks(SHAPE, len(ROIS), random)
    masks[1] = False
    image = random.normal(-100, 40, SHAPE)
    for number, mask in enumerate(masks):
        image[mask] += 60 * (number + 1)
    unknown = random.random((len(ROIS), *SHAPE)) < 0.2 if with_unknown else np.zeros((len(ROIS), *SHAPE), bool)
    unknown &= ~masks | (random.random(SHAPE) < 0.1)
    masks &= ~unknown
    write_masks(folder, "made_up", "case", ROIS, labelled, image, masks, unknown if with_unknown else None)
    return masks, unknown


def naive(volume, labelled, masks, unknown, overlap) -> dict[str, float]:
    slabs = predict_slabs(ByBrightness(), volume.read_image, volume.shape, len(ROIS), window(overlap))
    predicted = np.concatenate([slab.probabilities for slab in slabs], axis=1) >= 128
    found = {}
    for number, roi in enumerate(ROIS):
        known = ~unknown[number]
        one, other = (
            set(map(tuple, np.argwhere(predicted[number] & known))),
            set(map(tuple, np.argwhere(masks[number]))),
        )
        if roi in labelled and other:
            found[roi] = 2 * len(one & other) / (len(one) + len(other))
    return found


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize("with_unknown", [False, True])
@pytest.mark.parametrize("labelled", [("liver", "liver_tumor", "pancreas"), ROIS, ()])
def test_dice_is_that_of_whole_masks_where_they_are_labelled_and_known(labelled, with_unknown, overlap, tmp_path):
    masks, unknown = written(tmp_path, labelled, with_unknown, seed=3)
    volume = open_volume(tmp_path / "case")
    found = case_dice(ByBrightness(), volume, ROIS, window(overlap))
    assert found == pytest.approx(naive(volume, labelled, masks, unknown, overlap))
    assert "liver_tumor" not in found, "it is absent"
    if labelled:
        assert any(0 < value < 1 for value in found.values())


def test_every_window_is_told(tmp_path):
    written(tmp_path, ROIS, False, seed=3)
    counts = []
    case_dice(ByBrightness(), open_volume(tmp_path / "case"), ROIS, window(0.0), counts.append)
    assert sum(counts) == 3 * 3 * 3
