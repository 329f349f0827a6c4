"""The spacing at which a patch sees enough of a volume."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_lib.measurement.spacing import coarser_spacing, patch_share

sides = st.tuples(*[st.floats(0.5, 6)] * 3)
voxels = st.tuples(*[st.integers(16, 600)] * 3)


@given(sides, voxels, voxels)
def test_a_patch_sees_a_quarter_of_a_volume_and_hardly_more(spacing, patch, volume):
    found = np.array(coarser_spacing(spacing, patch, volume))
    millimetres = np.multiply(volume, spacing)
    share = patch_share(patch, millimetres / found)
    assert share >= 0.25
    if (found != spacing).any():
        # One step of 3 % less in each direction would not have been enough.
        assert patch_share(patch, millimetres / found * 1.03) < 0.25
        assert (found >= spacing).all()


def test_what_sees_enough_stays_as_it_is():
    assert coarser_spacing((7.0, 7.0, 7.0), (64, 32, 32), (60, 40, 60)) == (7.0, 7.0, 7.0)
    # No side of a patch counts beyond the volume's: 32/60 · 32/40 instead of (64·32·32) / (60·40·60).
    assert patch_share((64, 32, 32), (60, 40, 60)) == pytest.approx(32 / 40 * 32 / 60)


def test_a_fine_side_grows_first():
    """CT slices 5 mm apart: pixels of 1 mm grow to 1.03^24 = 2.03 mm, where half the slices' distance is passed."""
    x, y, z = coarser_spacing((1.0, 1.0, 5.0), (128, 128, 60), (600, 600, 60))
    assert z == 5.0
    assert x == y == pytest.approx(1.03**29)  # 128 · 1.03^29 / 600 > 1/2, and 128 · 1.03^28 / 600 < 1/2
    _, _, z = coarser_spacing((1.0, 1.0, 5.0), (32, 32, 60), (600, 600, 60))
    assert z > 5.0
