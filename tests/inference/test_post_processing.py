"""Keeping the largest part of a prediction."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.inference.post_processing import largest_part


def naive_parts(foreground):
    """Connected parts as sets of voxels, grown voxel by voxel."""
    left, parts = {tuple(map(int, voxel)) for voxel in np.argwhere(foreground)}, []
    while left:
        part, growing = set(), [left.pop()]
        while growing:
            voxel = growing.pop()
            part.add(voxel)
            near = {other for other in left if max(abs(a - b) for a, b in zip(voxel, other, strict=True)) <= 1}
            left -= near
            growing += near
        parts.append(part)
    return parts


@given(st.integers(0, 2**32), st.floats(0, 0.3))
def test_only_the_largest_part_is_left(seed, share):
    random = np.random.default_rng(seed)
    probability = random.integers(0, 128, (6, 5, 7)).astype(np.uint8)
    probability[random.random(probability.shape) < share] = 200
    before = probability.copy()
    found = largest_part(probability)
    assert np.array_equal(probability, before)
    parts = naive_parts(before >= 128)
    kept = {tuple(map(int, voxel)) for voxel in np.argwhere(found >= 128)}
    assert kept in ([part for part in parts if len(part) == max(map(len, parts))] if parts else [set()])
    # What lies below one half, or in the part that is kept, stays what it was.
    assert np.array_equal(found[before < 128], before[before < 128])
    assert all(found[voxel] == before[voxel] for voxel in kept)
