"""Settings of every test: no deadlines, since shared machines are noisy, and the same examples in every run."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("lacuna", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("lacuna")
