"""Checksums that grow with a file as it arrives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

_CHUNK_BYTES = 1 << 22


class Checksums:
    """The checksums of a growing file, compared with those that its publisher states (name → hexadecimal value)."""

    def __init__(self, stated: Mapping[str, str]) -> None:
        self._stated = stated
        self._restart()

    def update(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        for hasher in self._hashers.values():
            hasher.update(chunk)

    def catch_up(self, file: Path) -> None:
        """Read what the file holds beyond the bytes seen so far; all of it if it holds fewer (it was restarted)."""
        size = file.stat().st_size if file.exists() else 0
        if size < self._bytes:
            self._restart()
        if not self._hashers or size == self._bytes:
            return
        with file.open("rb") as opened:
            opened.seek(self._bytes)
            while chunk := opened.read(_CHUNK_BYTES):
                self.update(chunk)

    def disagreement(self) -> str | None:
        """How the checksums differ from the stated ones; None if they agree."""
        for name, stated in self._stated.items():
            found = self._hashers[name].hexdigest()
            if found != stated:
                return f"its {name} is {found} instead of {stated}: damaged on the way, or changed by its publisher"
        return None

    def _restart(self) -> None:
        self._bytes = 0
        self._hashers = {name: hashlib.new(name, usedforsecurity=False) for name in self._stated}
