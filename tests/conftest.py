"""Settings of every test: no deadlines, since shared machines are noisy, and the same examples in every run."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # Triton reads this when it is imported: its kernels are then computed in NumPy, a program after the other.
    os.environ["TRITON_INTERPRET"] = "1"

settings.register_profile("lacuna", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("lacuna")
