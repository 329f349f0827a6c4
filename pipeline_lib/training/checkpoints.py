"""Checkpoints that survive a kill at any moment, a full disk and a torn file.

They lie in `work/STAGE/FINGERPRINT/`, which no rule declares: Snakemake deletes the declared outputs of a job that was
killed, and the job resumes from this folder. The fingerprint covers everything that the training depends on
(training.identity), so that a training never resumes from the checkpoints of another one.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..files import file_digest
from ..progress import say

_KEPT = 2


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
            newest = self.folder / f"step-{step:08d}.{file_digest(partial)}.pt"
            partial.replace(newest)
        except (OSError, RuntimeError) as error:
            # torch's writer reports a full disk as a RuntimeError.
            partial.unlink(missing_ok=True)
            say(f"warning: no checkpoint at step {step}, training continues: {_first_line(error)} ({self.folder})")
            return False
        # Of later steps there are only damaged ones, which the training did not resume from.
        found = self._newest_first()
        older = [path for path in found if path.name < newest.name]
        for path in {*found, *self.folder.glob("*.partial")} - {newest, *older[: _KEPT - 1]}:
            path.unlink()
        return True

    def newest(self) -> dict[str, Any] | None:
        """The state of the newest intact checkpoint, on the CPU; None if there is none. Damaged ones are skipped.

        UserError: a file cannot be read, which may be so for a while only.
        """
        for path in self._newest_first():
            try:
                if file_digest(path) == path.name.split(".")[1]:
                    return torch.load(path, map_location="cpu", weights_only=True)
            except OSError as error:
                wrong = f"cannot be read ({error.strerror})"
                remedy = "run it again when the disk is well, or delete the file to resume from the one before"
                raise UserError(str(path), wrong, remedy) from error
            say(f"warning: {path} is damaged and is skipped")
        return None

    def remove(self) -> None:
        """Delete the whole folder: the training's outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.pt"), reverse=True)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
