"""Checkpoints that survive a kill at any moment, a full disk and a torn file.

They lie in `work/STAGE/FINGERPRINT/`, which no rule declares: Snakemake deletes the declared outputs of a job that was
killed, and this folder is what the job goes on from. The fingerprint covers everything that the training depends on,
so that another config, other data or another version of the stage never goes on from them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..config.section import Section, text_without_defaults
from ..progress import say

_KEPT = 2
_DIGEST_CHARACTERS = 32


def fingerprint(settings: Section, files: Sequence[Path], version: int) -> str:
    """A short name for all that a training depends on: its settings, the contents of its input files, its version."""
    whole = hashlib.blake2b(f"{version}\n{text_without_defaults(settings)}\n".encode(), digest_size=10)
    for file in files:
        whole.update(_digest(file).encode())
    return whole.hexdigest()


class Checkpoints:
    """The checkpoints in `folder`, named `step-STEP.DIGEST.pt` by their step and the digest of their content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, step: int, state: dict[str, Any]) -> bool:
        """Write `state` whole or not at all and keep the newest two; False, with a warning, if the disk refuses."""
        partial = self.folder / f"step-{step:08d}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.folder / f"step-{step:08d}.{_digest(partial)}.pt")
        except (OSError, RuntimeError) as error:
            # torch's writer reports a full disk as a RuntimeError.
            partial.unlink(missing_ok=True)
            say(
                f"warning: no checkpoint at step {step}, training goes on: {str(error).splitlines()[0]} ({self.folder})"
            )
            return False
        for old in self._newest_first()[_KEPT:]:
            old.unlink()
        return True

    def newest(self) -> dict[str, Any] | None:
        """The newest whole checkpoint's state on the CPU, None where there is none; torn ones are passed over."""
        for path in self._newest_first():
            if _digest(path) == path.name.split(".")[1]:
                return torch.load(path, map_location="cpu", weights_only=True)
            say(f"warning: {path} is damaged and passed over")
        return None

    def remove(self) -> None:
        """Delete the whole folder: the training's outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:_DIGEST_CHARACTERS]
