"""What is known of the structures in a patch, against a count of single voxels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.data.patches import presence_in_patches, voxels_in_patches
from pipeline_lib.volumes.store import open_volume
from tests.support.synthetic import write_masks

STRUCTURES = ("liver", "spleen", "colon")
SHAPE, PATCH = (6, 7, 8), (3, 4, 4)
STARTS = np.array([[0, 0, 0], [3, 3, 4], [1, 2, 3], [-1, 4, 5]])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), least_voxels=st.integers(1, 9), labelled=st.sets(st.sampled_from(STRUCTURES)))
def test_presence_is_known_of_labelled_structures_with_enough_voxels_or_none_open(
    tmp_path_factory, seed, least_voxels, labelled
):
    random = np.random.default_rng(seed)
    masks = random.random((3, *SHAPE)) < random.choice([0, 0.1, 0.5], (3, 1, 1, 1))
    is_open = (random.random((3, *SHAPE)) < random.choice([0, 0, 0.05], (3, 1, 1, 1))) & ~masks
    named = tuple(name for name in STRUCTURES if name in labelled)
    folder = tmp_path_factory.mktemp("volumes")
    unknown = is_open & np.isin(STRUCTURES, named)[:, None, None, None]
    write_masks(folder, "set", "case", STRUCTURES, named, np.zeros(SHAPE), masks, unknown if unknown.any() else None)
    volume = open_volume(folder / "case")
    present, known = presence_in_patches(volume, STARTS, PATCH, least_voxels)
    counts = voxels_in_patches(volume, STARTS, PATCH)
    for patch, start in enumerate(STARTS):
        inside = tuple(slice(max(low, 0), low + side) for low, side in zip(start, PATCH, strict=True))
        for k, name in enumerate(STRUCTURES):
            voxels = int(masks[k][inside].sum()) if name in labelled else 0
            assert counts[patch, k] == voxels
            assert present[patch, k] == (voxels >= least_voxels)
            told = voxels >= least_voxels or not is_open[k][inside].any()
            assert known[patch, k] == (name in labelled and told)
