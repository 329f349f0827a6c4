"""Networks as they are at some steps of a training, for checks that come after it.

The files lie beside the checkpoints until the training ends, because Snakemake deletes the declared outputs of a job
that was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError
from ..progress import say


def step_at(share: float, steps: int) -> int:
    """The step after which `share` of a training of `steps` steps is done, at least the first."""
    return max(1, round(share * steps))


def snapshot_name(share: float) -> str:
    """File of the snapshot after this share of a training."""
    return f"{share:g}.safetensors"


class Snapshots:
    """Calls `save` with a file in `folder` after each of `shares` of a training of `steps` steps."""

    def __init__(self, shares: Sequence[float], steps: int, folder: Path, save: Callable[[Path], None]) -> None:
        self.planned = [(step_at(share, steps), folder / snapshot_name(share)) for share in shares]
        self.folder, self.save = folder, save

    @property
    def files(self) -> list[Path]:
        return [path for _, path in self.planned]

    def take(self, step: int) -> None:
        """Save what is due after `step`; only a warning if the disk refuses."""
        for due, path in self.planned:
            if due == step:
                try:
                    self.save(path)
                except OSError as error:
                    reason = f"{error.strerror or error} ({self.folder})"
                    say(f"warning: no snapshot {path.name} at step {step}, training continues: {reason}")

    def check(self, step: int) -> None:
        """UserError if a training that has done `step` steps lacks a snapshot that was due by then."""
        if missing := [path.name for due, path in self.planned if due <= step and not path.is_file()]:
            raise UserError(
                str(self.folder.parent),
                f"holds a training that has done {step} steps without keeping {', '.join(missing)}",
                "remove those shares from `pseudo_labels.snapshots`, or delete the folder to train from the start",
            )
