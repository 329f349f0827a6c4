"""Labels as bits: those of a volume's codes, and those of a batch."""

import numpy as np
import torch


def planes_of(codes, combinations):
    """Byte planes uint8 P D H W of codes D H W."""
    return np.moveaxis(combinations[codes], -1, 0)


def read_planes(volume, start, shape):
    return planes_of(volume.read_codes(start, shape), volume.combinations)


def label_bits(masks):
    """Byte planes uint8 B P … of bool masks B K …, as a batch holds them."""
    return torch.tensor(np.packbits(np.asarray(masks), axis=1, bitorder="little"))
