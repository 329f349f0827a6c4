"""A start model's masks as labels, against a loop over samples, ROIs and voxels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline_lib.data.batches import Batch
from pipeline_lib.label_bits import pack
from pipeline_lib.methods.exclusive_organs import exclusive_rois
from pipeline_lib.methods.start_labels import StartLabels

ROIS = tuple(f"roi_{number}" for number in range(17))
KNOWN = ("roi_9", "gone", "roi_0", "roi_16")
# roi_1 is a part of roi_0: all other pairs exclude each other.
STRUCTURES = tuple((f"organ_{max(number, 1)}",) for number in range(17))
SHAPE = (2, 3, 2)


@pytest.mark.parametrize("has_unknown", [False, True])
def test_masks_are_labels_where_the_case_labels_nothing(has_unknown):
    random = np.random.default_rng(0)
    bits, unknown = (random.random((3, 17, *SHAPE)) < 0.2 for _ in range(2))
    labelled = random.random((3, 17)) < 0.5
    labelled[:, 0] = [True, False, False]
    logits = random.normal(size=(3, 4, *SHAPE))
    batch = Batch(
        names=("a", "b", "c"),
        weak=torch.zeros(3, 1, *SHAPE),
        strong=torch.zeros(3, 1, *SHAPE),
        planes=torch.from_numpy(np.stack([pack(masks) for masks in bits])),
        labelled=torch.from_numpy(labelled),
        scores=torch.zeros(3, 17),
        unknown=torch.from_numpy(np.stack([pack(masks) for masks in unknown])) if has_unknown else None,
    )
    expected, known, told = bits.copy(), np.ones_like(bits), labelled.copy()
    for sample in range(3):
        for roi in range(17):
            known[sample, roi] = labelled[sample, roi] & ~(unknown[sample, roi] & has_unknown)
        for channel, name in enumerate(KNOWN):
            if name == "gone" or labelled[sample, roi := ROIS.index(name)]:
                continue
            for voxel in np.ndindex(SHAPE):
                rivals = [other for other in range(17) if STRUCTURES[other] != STRUCTURES[roi]]
                taken = any(known[sample, other][voxel] and bits[sample, other][voxel] for other in rivals)
                expected[sample, roi][voxel] = logits[sample, channel][voxel] >= 0 and not taken
            known[sample, roi], told[sample, roi] = True, True
    start = StartLabels(lambda _: torch.from_numpy(logits), KNOWN, ROIS, exclusive_rois(STRUCTURES), torch.sigmoid)
    found = start.added_to(batch)
    assert np.array_equal(found.labelled.numpy(), told)
    read = known & told[:, :, None, None, None]
    assert np.array_equal(found.labels.numpy() & read, expected & read)
    if has_unknown:
        assert np.array_equal(found.known.numpy(), read)
