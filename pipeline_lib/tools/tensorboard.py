"""Histories of trainings, finished or under way, as logs for TensorBoard. Needs the extra `tensorboard`.

    python -m pipeline_lib.tools.tensorboard work/tensorboard
    tensorboard --logdir work/tensorboard

It finds the histories of all trainings in the working directory: results/…/RUN/history.jsonl of finished ones, and
work/STAGE/FINGERPRINT/history.jsonl of those under way, whose run is in the file run.json beside it. Call it again for
newer rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import RUN_FILE, atomic_folder, read_json, read_json_lines


def export(history: Path, logs: Path) -> Path:
    """Write every number of `history` as a scalar into the folder of `logs` that has the run's name.

    `loss: {latent: …}` becomes `loss/latent`. What an earlier call wrote for this run is replaced, because a resumed
    training repeats some of its steps. Returns the folder. UserError: `history` cannot be read, or TensorBoard is not
    installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("tensorboard", "is not installed", "pip install -e '.[tensorboard]'") from error
    rows = _rows(history)
    folder = logs / run_name(history)
    with atomic_folder(folder) as partial:
        writer = SummaryWriter(partial)
        for row in rows:
            for name, value in _scalars(row):
                writer.add_scalar(name, value, row["step"])
        writer.close()
    return folder


def find_histories(folder: Path) -> list[Path]:
    """Histories of all trainings in a working directory; those under way come last, so that they replace older ones."""
    return [*sorted(folder.glob("results/**/history.jsonl")), *sorted(folder.glob("work/*/*/history.jsonl"))]


def run_name(history: Path) -> str:
    """The run that a history belongs to, by the file run.json beside it, or else by its folder's name."""
    note = history.with_name(RUN_FILE)
    return str(read_json(note)["run"]) if note.is_file() else history.parent.name


def _rows(history: Path) -> list[dict[str, Any]]:
    return read_json_lines(history, growing=True)


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of every number but the step; the hardware's name is not a number."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{entry}", number) for entry, number in value.items())
        elif name != "step" and not isinstance(value, str):
            yield name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, help="folder for the logs, one folder per training in it")
    parser.add_argument("histories", type=Path, nargs="*", help="history.jsonl of some trainings (default: all)")
    given = parser.parse_args()
    try:
        histories = given.histories or find_histories(Path.cwd())
        if not histories:
            raise UserError(str(Path.cwd()), "has no training's history", "run this where results/ and work/ are")
        for history in histories:
            print(export(history, given.logs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
