"""What this machine has, found without importing torch."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import psutil


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


def available_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a program can still take here: what the machine has free, or what its container may still take."""
    free = int(psutil.virtual_memory().available)
    try:
        most = (groups / "memory.max").read_text(encoding="ascii").strip()
        used = int((groups / "memory.current").read_text(encoding="ascii"))
        counted = (groups / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return free
    # Cached files count as used, and make room when it is needed.
    cached = sum(int(line.split()[1]) for line in counted if line.startswith(("active_file ", "inactive_file ")))
    return free if most == "max" else min(free, max(int(most) - used + cached, 0))
