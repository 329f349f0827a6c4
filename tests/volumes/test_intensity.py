import numpy as np

from pipeline_lib.volumes.intensity import scaled


def test_the_window_becomes_minus_one_to_one_and_nothing_leaves_it():
    hu = np.array([-3000, -325, -162, 0, 325, 3000], np.int16)
    assert np.allclose(scaled(hu, (-325, 325)), [-1, -1, -162 / 325, 0, 1, 1])
    assert np.allclose(scaled(np.array([-100, 0, 300], np.int16), (-100, 300)), [-1, -0.5, 1])
    assert scaled(hu, (-325, 325)).dtype == np.float32
