"""What this machine has, found without importing torch."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


def visible_gpus(devices: Path = Path("/dev")) -> int:
    """Number of NVIDIA GPUs of this machine, or of those that CUDA_VISIBLE_DEVICES leaves to this user."""
    present = len([device for device in devices.glob("nvidia*") if device.name.removeprefix("nvidia").isdigit()])
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return present
    return min(present, len([name for name in allowed.split(",") if name.strip() not in ("", "-1")]))


@cache
def processor() -> str:
    """Name of the processor."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
