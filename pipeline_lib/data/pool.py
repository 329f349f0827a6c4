"""The pool of patch positions of a training case: seeded, drawn once, scored once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..config.volumes import Patches
from ..randomness import random_generator
from ..volumes.record import CaseRecord

_JITTER = 0.25
"""Greatest distance of the labelled voxel from its patch's centre, as a share of the patch's side."""


def pool_positions(
    record: CaseRecord, patches: Patches, seed: int, labelled_cases: Mapping[str, int] | None = None
) -> NDArray[np.int64]:
    """Start indices (z, y, x) of the case's pooled patches, int64 pool_size × 3, keyed by (seed, data set, case).

    The first `foreground_fraction` of them lie around (not centred on) a random voxel of a labelled target; the targets
    that the case holds take turns. The centres of the rest are anywhere in the body's box. DoDNet takes the same share,
    0.8, around the box of all foreground; a voxel of one target at random is TransDoDNet's and nnU-Net's manner. A
    patch reaches outside the volume only along an axis on which the volume is smaller than the patch.

    `labelled_cases` says of each target how many cases of the data set label it. The turn of the rarest comes first, so
    that a pool with fewer foreground patches than targets lacks the common ones.
    """
    random = random_generator("pool", seed, record.dataset, record.case)
    shape = np.array(patches.shape)
    present = [target for target in record.labelled if record.foreground.get(target)]
    if labelled_cases is not None:
        present.sort(key=lambda target: labelled_cases[target])
    around_foreground = round(patches.foreground_fraction * patches.pool_size) if present else 0
    centres = np.empty((patches.pool_size, 3))
    for patch in range(patches.pool_size):
        if patch < around_foreground:
            voxels = record.foreground[present[patch % len(present)]]
            voxel = np.array(voxels[random.integers(len(voxels))])
            centres[patch] = voxel + random.uniform(-_JITTER, _JITTER, size=3) * shape
        else:
            low, high = np.array(record.body)
            centres[patch] = random.uniform(low, high)
    return inside(np.rint(centres - shape / 2).astype(np.int64), shape, np.array(record.shape))


def count_labelled(records: Iterable[CaseRecord]) -> Counter[str]:
    """How many of these cases label each target."""
    return Counter(target for record in records for target in record.labelled)


def inside(starts: NDArray[np.int64], shape: NDArray[np.int64], volume_shape: NDArray[np.int64]) -> NDArray[np.int64]:
    """`starts` (N × 3) moved so that patches of `shape` lie in the volume, centred where the volume is smaller."""
    spare = volume_shape - shape
    low = np.where(spare < 0, spare // 2, 0)
    high = np.where(spare < 0, spare // 2, spare)
    return np.clip(starts, low, high)
