"""Histories of trainings, finished or under way, as logs for TensorBoard. Needs the extra `tensorboard`.

    python -m pipeline_lib.tools.tensorboard work/tensorboard results/models/*/history.jsonl
    tensorboard --logdir work/tensorboard

A training under way keeps its history in work/train/FINGERPRINT/history.jsonl; call it again for newer rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import atomic_folder, read_json_lines


def export(history: Path, logs: Path) -> Path:
    """Write every number of `history` as a scalar into the folder of `logs` that is named like the history's.

    `loss: {latent: …}` becomes `loss/latent`. What an earlier call wrote for this training is replaced, because a
    training that was resumed takes some of its steps again. Returns the folder. UserError: `history` cannot be read,
    or TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("tensorboard", "is not installed", "pip install -e '.[tensorboard]'") from error
    rows = _rows(history)
    folder = logs / history.parent.name
    with atomic_folder(folder) as partial:
        writer = SummaryWriter(partial)
        for row in rows:
            for name, value in _scalars(row):
                writer.add_scalar(name, value, row["step"])
        writer.close()
    return folder


def _rows(history: Path) -> list[dict[str, Any]]:
    """The rows; of a training under way, the last line may be half written and is left out."""
    return read_json_lines(history, growing=True)


def _scalars(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of every number but the step; the hardware's name is none."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}/{entry}", number) for entry, number in value.items())
        elif name != "step" and not isinstance(value, str):
            yield name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, help="folder for the logs, one folder per training in it")
    parser.add_argument("histories", type=Path, nargs="+", help="history.jsonl of one or more trainings")
    given = parser.parse_args()
    try:
        for history in given.histories:
            print(export(history, given.logs))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
