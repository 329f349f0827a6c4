"""A volume's labels as the bits that its codes stand for."""

import numpy as np


def planes_of(codes, combinations):
    """Byte planes uint8 P D H W of codes D H W."""
    return np.moveaxis(combinations[codes], -1, 0)


def read_planes(volume, start, shape):
    return planes_of(volume.read_codes(start, shape), volume.combinations)
