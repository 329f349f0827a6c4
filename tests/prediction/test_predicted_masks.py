"""Masks of labelled volumes, with certainty and Dice, against masks that are counted voxel by voxel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline_lib.config.evaluation import Prediction, PredictionExecution
from pipeline_lib.errors import UserError
from pipeline_lib.inference.post_processing import largest_part
from pipeline_lib.inference.sliding_window import predict_slabs
from pipeline_lib.networks.model_file import load_segmentation_model
from pipeline_lib.prediction.predicted_masks import predicted_masks
from pipeline_lib.prediction.windows import sliding_window
from pipeline_lib.volumes.record import read_record, write_record
from pipeline_lib.volumes.store import RECORD, open_volume
from tests.support.synthetic import SPACING, WINDOW, case_masks, write_masks
from tests.support.tiny_model import ROIS, write_tiny_model

PREDICTION = Prediction(overlap=0, post_processing={"spleen": "largest_part"})
EXECUTION = PredictionExecution(device="cpu", precision="float32")
SHAPE = (32, 32, 64)


def test_dice_and_certainty_are_those_of_the_masks_that_a_case_labels(tmp_path):
    path = write_tiny_model(tmp_path / "model.safetensors", seed=9, spacing_mm=SPACING, window_hu=WINDOW)
    random = np.random.default_rng(2)
    masks = case_masks(SHAPE, len(ROIS), random)
    masks[0], masks[2] = True, False
    masks[0, :9] = False
    unknown = random.random((len(ROIS), *SHAPE)) < 0.2
    masks &= ~unknown
    write_masks(tmp_path, "made_up", "case", ROIS, ("liver", "spleen"), random.normal(0, 90, SHAPE), masks, unknown)
    volume = open_volume(tmp_path / "case")
    seen = []
    found = predicted_masks(path, PREDICTION, EXECUTION, [volume], seen.append)
    assert seen == ["case"]
    assert [mask.roi for mask in found] == ["liver", "spleen"]
    network, description = load_segmentation_model(path, "cpu")
    window = replace(sliding_window(PREDICTION, EXECUTION, description, torch.device("cpu")), window_batch_size=1)
    (slab,) = predict_slabs(network, volume.read_image, SHAPE, len(ROIS), window)
    for mask in found:
        number = ROIS.index(mask.roi)
        probability = slab.probabilities[number]
        if mask.roi == "spleen":
            probability = largest_part(probability)
        inside = probability >= 128
        sums = probability[inside].sum() / 255, inside.sum() + probability.sum() / 255
        assert mask.certainty == pytest.approx(2 * sums[0] / sums[1])
        one, other = inside & ~unknown[number], masks[number]
        assert mask.dice == pytest.approx(2 * (one & other).sum() / (one.sum() + other.sum()))
    assert found[0].dice > 0
    assert found[1].dice == 0  # it is labelled, and not there


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"targets": ("liver", "spleen", "lung")},
            "labels of liver, spleen, lung, and the model segments liver, liver_tumor, spleen",
        ),
        ({"spacing_mm": (6.0, 6.0, 3.0)}, "voxels of 6, 6, 3 mm, and the model takes 6, 6, 6 mm"),
        ({"window_hu": (-200.0, 325.0)}, "intensities of -200, 325 HU, and the model takes -325, 325 HU"),
    ],
)
def test_a_volume_that_the_model_does_not_fit_is_refused_before_any_is_predicted(tmp_path, changes, said):
    path = write_tiny_model(tmp_path / "model.safetensors", spacing_mm=SPACING, window_hu=WINDOW)
    for case in ("good", "other"):
        write_masks(tmp_path, "made_up", case, ROIS, ROIS, np.zeros(SHAPE), np.zeros((3, *SHAPE), bool))
    record = tmp_path / "other" / RECORD
    write_record(record, read_record(record).model_copy(update=changes))
    seen: list[str] = []
    with pytest.raises(UserError, match=said):
        predicted_masks(
            path, PREDICTION, EXECUTION, [open_volume(tmp_path / case) for case in ("good", "other")], seen.append
        )
    assert seen == []
