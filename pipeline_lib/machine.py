"""What this machine has, found without importing torch."""

from __future__ import annotations

from pathlib import Path


def visible_gpus() -> int:
    """Number of NVIDIA GPUs of this machine."""
    return len([device for device in Path("/dev").glob("nvidia*") if device.name.removeprefix("nvidia").isdigit()])
