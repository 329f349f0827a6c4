"""What this machine has, found without importing torch."""

from __future__ import annotations

import os
from pathlib import Path


def visible_gpus(devices: Path = Path("/dev")) -> int:
    """Number of NVIDIA GPUs of this machine, or of those that CUDA_VISIBLE_DEVICES leaves to this user."""
    present = len([device for device in devices.glob("nvidia*") if device.name.removeprefix("nvidia").isdigit()])
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return present
    return min(present, len([name for name in allowed.split(",") if name.strip() not in ("", "-1")]))
