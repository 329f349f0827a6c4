"""Organ confusion and the places of false voxels, against counts of single voxels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline_lib.scoring.case_scores import score_roi
from pipeline_lib.scoring.case_truth import CaseTruth, TruthBuilder, families
from pipeline_lib.scoring.confusion import Confusion, confusion
from pipeline_lib.scoring.false_voxels import NEAR_BORDER_MM, false_voxels, within

ROIS = ("liver", "liver_tumor", "spleen", "kidney")
FAMILY = families(ROIS, {"liver_tumor": "liver"})


def random_case(seed: int, shape: tuple[int, ...] = (5, 6, 7)) -> tuple[np.ndarray, CaseTruth, dict[int, np.ndarray]]:
    """Prediction bits, the truth of some ROIs, and where each labelled one is unknown."""
    random = np.random.default_rng(seed)
    prediction = random.integers(0, 2 ** len(ROIS), shape).astype(np.uint8)
    builder, unknown = TruthBuilder(shape, len(ROIS)), {}
    for roi in range(len(ROIS)):
        if random.random() < 0.7:
            unknown[roi] = random.random(shape) < random.choice([0, 0.3])
            builder.add(roi, random.random(shape) < 0.4, unknown[roi] if unknown[roi].any() else None)
    return prediction, builder.truth(), unknown


@pytest.mark.parametrize("seed", range(12))
def test_confusion_agrees_with_counts_of_single_voxels(seed):
    prediction, truth, unknown = random_case(seed)
    expected = []
    for roi in range(len(ROIS)):
        for true_roi in truth.labelled:
            counted = taken = 0
            for place in np.ndindex(prediction.shape):
                is_true = truth.bits[place] >> true_roi & 1
                if not is_true or unknown[true_roi][place]:
                    continue
                if roi != true_roi and roi in truth.labelled:
                    if truth.bits[place] >> roi & 1 or unknown[roi][place]:
                        continue
                elif roi != true_roi and {ROIS[roi], ROIS[true_roi]} == {"liver", "liver_tumor"}:
                    continue
                counted += 1
                taken += int(prediction[place] >> roi & 1)
            if counted:
                expected.append(Confusion(roi, true_roi, counted, taken))
    assert list(confusion(prediction, truth, FAMILY)) == expected


def test_the_confusion_of_a_case_that_was_worked_out_by_hand():
    """Ten voxels: liver in five, of which two are tumour; spleen in three. Kidneys are not labelled."""
    builder = TruthBuilder((1, 1, 10), len(ROIS))
    for roi, places in ((0, range(5)), (1, (3, 4)), (2, (5, 6, 7))):
        mask = np.zeros((1, 1, 10), bool)
        mask[..., list(places)] = True
        builder.add(roi, mask, None)
    prediction = np.zeros((1, 1, 10), np.uint8)
    for roi, places in ((0, (0, 1, 3, 4, 5)), (1, (2, 3)), (3, (6, 7, 9))):
        prediction[..., list(places)] |= 1 << roi
    found = {(ROIS[row.roi], ROIS[row.true_roi]): row[2:] for row in confusion(prediction, builder.truth(), FAMILY)}
    assert found == {
        ("liver", "liver"): (5, 4),
        ("liver", "spleen"): (3, 1),
        ("liver_tumor", "liver"): (3, 1),
        ("liver_tumor", "liver_tumor"): (2, 1),
        ("liver_tumor", "spleen"): (3, 0),
        ("spleen", "liver"): (5, 0),
        ("spleen", "liver_tumor"): (2, 0),
        ("spleen", "spleen"): (3, 0),
        ("kidney", "liver"): (5, 0),
        ("kidney", "liver_tumor"): (2, 0),
        ("kidney", "spleen"): (3, 2),
    }


def test_an_organ_is_not_blamed_for_its_tumour_where_only_the_tumour_is_labelled():
    builder = TruthBuilder((1, 1, 4), len(ROIS))
    builder.add(1, np.array([[[True, True, False, False]]]), None)
    prediction = np.full((1, 1, 4), 0b0101, np.uint8)
    pairs = {(ROIS[row.roi], ROIS[row.true_roi]) for row in confusion(prediction, builder.truth(), FAMILY)}
    assert pairs == {("liver_tumor", "liver_tumor"), ("spleen", "liver_tumor"), ("kidney", "liver_tumor")}


def test_bits_of_many_rois_and_of_another_shape():
    rois = 40
    builder = TruthBuilder((2, 2, 2), rois)
    builder.add(39, np.ones((2, 2, 2), bool), None)
    prediction = np.full((2, 2, 2), 1 << 38, np.uint64)
    rows = list(confusion(prediction, builder.truth(), [str(roi) for roi in range(rois)]))
    assert [row for row in rows if row.voxels_predicted] == [Confusion(38, 39, 8, 8)]
    with pytest.raises(ValueError, match="shape"):
        list(confusion(prediction[:1], builder.truth(), [str(roi) for roi in range(rois)]))


def distance_to_boxes(mask: np.ndarray, place: tuple[int, ...], spacing_zyx: tuple[float, ...]) -> float:
    """Distance in mm from a voxel's centre to the nearest voxel of a mask, each of which is a box."""
    least = math.inf
    for other in np.argwhere(mask):
        gaps = [max(abs(a - b) - 0.5, 0) * s for a, b, s in zip(place, other, spacing_zyx, strict=True)]
        least = min(least, math.hypot(*gaps))
    return least


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.5, 4.0), (0.8, 0.8, 1.25), (3.9, 3.9, 2.5), (6.0, 2.0, 7.0)])
def test_distances_to_a_mask_agree_with_those_to_each_of_its_voxels(spacing_mm):
    random = np.random.default_rng(3)
    for share in (0.004, 0.03):
        mask = random.random((7, 10, 11)) < share
        found = within(mask, spacing_mm, NEAR_BORDER_MM)
        expected = [
            distance_to_boxes(mask, place, spacing_mm[::-1]) <= NEAR_BORDER_MM + 1e-9
            for place in np.ndindex(mask.shape)
        ]
        assert found.ravel().tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_each_false_voxel_counts_once_by_where_it_lies(seed):
    random, spacing_mm = np.random.default_rng(seed), (1.0, 2.0, 3.0)
    prediction, truth, others = (random.random((5, 8, 9)) < share for share in (0.5, 0.02, 0.2))
    expected = {"in_other": 0, "near_border": 0, "elsewhere": 0}
    for place in np.argwhere(prediction & ~truth):
        near = distance_to_boxes(truth, tuple(place), spacing_mm[::-1]) <= NEAR_BORDER_MM + 1e-9
        expected["in_other" if others[tuple(place)] else "near_border" if near else "elsewhere"] += 1
    assert vars(false_voxels(prediction, truth, others, spacing_mm)) == expected
    row = score_roi(prediction, truth, "liver", spacing_mm, "nnunet", 2.0, others=others)
    volumes = [row[f"volume_false_{where}_ml"] for where in expected]
    assert volumes == pytest.approx([count * 6 / 1000 for count in expected.values()])
    assert sum(volumes) == pytest.approx((row["voxels_prediction"] - row["voxels_both"]) * 6 / 1000)


def test_without_truth_no_false_voxel_is_near_its_border():
    prediction, empty = np.ones((2, 3, 4), bool), np.zeros((2, 3, 4), bool)
    assert vars(false_voxels(prediction, empty, empty, (1, 1, 1))) == {"in_other": 0, "near_border": 0, "elsewhere": 24}
