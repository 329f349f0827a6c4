"""The trained models that are kept in models/: what each was trained from, and how to remove one.

python -m pipeline_lib.tools.models
python -m pipeline_lib.tools.models --remove 1f0c5e5135fbb918603a

Nothing else ever deletes from models/. A model that is removed is trained again when its results are needed again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..training.model_store import MODELS, kept_folders, read_about


def kept_models(models: Path = MODELS) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder of each kept training and what its about.json says, newest last."""
    found = [(folder, about) for folder in kept_folders(models, "*/*") if (about := read_about(folder))]
    yield from sorted(found, key=lambda entry: str(entry[1]["finished"]))


def described(folder: Path, about: dict[str, Any]) -> str:
    """Two lines: stage, fingerprint, run, date and size; then what it was trained from."""
    size = sum(file.stat().st_size for file in folder.iterdir())
    head = f"{folder.parent.name:<16}{folder.name:<22}{about['title']:<28}{about['finished']}{size / 1e6:>10.1f} MB"
    return f"{head}\n    " + ", ".join(f"{name}: {value}" for name, value in about["depends_on"].items())


def remove(fingerprints: Sequence[str], models: Path = MODELS) -> None:
    """Delete the kept trainings of these fingerprints, given in full, and nothing else.

    Raises
    ------
    UserError: one of them is not kept; then none is deleted.
    """
    kept = {folder.name: folder for folder in models.glob("*/*") if folder.is_dir()}
    unknown = [name for name in fingerprints if name not in kept]
    if unknown:
        raise UserError(str(models), f"has no {', '.join(unknown)}", "list what there is: without --remove")
    for name in fingerprints:
        shutil.rmtree(kept[name])


def main() -> None:
    parser = argparse.ArgumentParser(description="List the trained models that are kept in models/, newest last.")
    parser.add_argument("--remove", nargs="+", metavar="FINGERPRINT", help="delete these instead, without asking")
    given = parser.parse_args()
    try:
        if given.remove:
            remove(given.remove)
            return
    except UserError as error:
        sys.exit(f"error: {error}")
    for folder, about in kept_models():
        print(described(folder, about))


if __name__ == "__main__":
    main()
