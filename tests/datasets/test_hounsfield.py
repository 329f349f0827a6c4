"""Images in HU, and images that are hardly in HU."""

import numpy as np
import pytest

from pipeline_lib.datasets.hounsfield import unit_fault, unit_note

SHAPE = (20, 32, 32)


def scan(padding=None, noise=15) -> np.ndarray:
    """HU of a round body with fat under the skin, soft tissue, lung and a bone, in air; padding outside a circle."""
    _, y, x = np.indices(SHAPE)
    radius = np.hypot(y - 15.5, x - 15.5)
    hu = np.full(SHAPE, -1000.0)
    hu[radius < 13] = -100
    hu[radius < 12] = 40
    hu[np.hypot(y - 15, x - 11) < 3] = -850
    hu[np.hypot(y - 22, x - 16) < 2] = 1000
    hu += np.random.default_rng(0).normal(0, noise, SHAPE)
    if padding is not None:
        hu[radius > 15.4] = padding
    return np.rint(hu).astype(np.int16)


GOOD = {
    "plain": scan(),
    "padded": scan(-2048),
    "padded with the lowest value": scan(-32768),
    "without noise": scan(noise=0),
    "floating point": scan().astype(np.float32),
    "windowed": scan().clip(-1024, 600),
}


@pytest.mark.parametrize("name", GOOD)
def test_nothing_is_said_of_a_ct_in_hu(name):
    assert unit_fault(GOOD[name]) is None
    assert unit_note(GOOD[name]) == ""


BAD = {
    "constant": (np.full(SHAPE, -1024, np.int16), "is constant"),
    "offset": (scan() + 1024, "tissue lies near 1024"),
    "offset, unsigned": ((scan() + 1024).clip(0).astype(np.uint16), "tissue lies near 1024"),
    "offset, padded": (scan(-3024) + 1024, "tissue lies near 1024"),
    "offset of 1000": (scan() + 1000, "tissue lies near 1024"),
    "0 to 1": (((scan() + 160) / 400).clip(0, 1), "span only 0 … 1"),
    "z-scores": ((scan() - scan().mean()) / scan().std(), "as if it were normalised"),
    "8 bits": (((scan() + 160) / 400 * 255).clip(0, 255).astype(np.uint8), "as in an 8-bit picture"),
    "intercept subtracted twice": (scan() - 1024, "tissue lies near -1024"),
    "air alone": (scan().clip(-1000, -800), "nothing of it is near water"),
    "no air and no fat": (scan().clip(0, 400), "it has no air and no fat"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_image_that_is_hardly_in_hu_is_told_with_its_likely_cause(name):
    voxels, expected = BAD[name]
    wrong, remedy = unit_fault(voxels)
    assert expected in wrong
    assert ("subtract 1024" in remedy) == name.startswith("offset")
    assert ("subtracted twice" in remedy) == (name == "intercept subtracted twice")


def test_a_window_without_air_is_only_noted():
    windowed = scan().clip(-160, 240)
    assert unit_fault(windowed) is None
    assert "lowest value is -160 HU" in unit_note(windowed)
