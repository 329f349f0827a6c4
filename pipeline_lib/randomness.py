"""Random numbers keyed by what they are for, never by worker, batch position or time."""

from __future__ import annotations

import hashlib

import numpy as np


def key_number(*key: str | int) -> int:
    """A 128-bit number that is equal for equal keys, on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=16).digest(), "little")


def random_generator(*key: str | int) -> np.random.Generator:
    """An independent generator for each key, for example `random_generator("crop", seed, epoch, case)`."""
    return np.random.Generator(np.random.Philox(key=key_number(*key)))
