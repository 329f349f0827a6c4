"""The list of a data set's files: written last, so a data set that has one is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import write_json

NAME = "manifest.json"


def write_manifest(path: Path, dataset: str, source: dict[str, Any], linked: bool) -> None:
    """List every file under the manifest's folder with its size, in the order of their paths.

    Parameters
    ----------
    path: the manifest itself, at the top of the data set's raw folder.
    source: where the files come from, as the config says it.
    linked: the files belong to the user and are only linked here, so that nothing may change or delete them.

    Hidden files are left out: they are the state of downloads and the clutter that macOS leaves in archives.
    """
    folder = path.parent
    files = [
        {"path": file.relative_to(folder).as_posix(), "size": file.stat().st_size}
        for file in sorted(_visible_files(folder))
        if file != path
    ]
    write_json(path, {"dataset": dataset, "source": source, "linked": linked, "files": files})


def _visible_files(folder: Path, above: frozenset[Path] = frozenset()) -> list[Path]:
    """Files below `folder`, also through links to folders, without going round in circles."""
    here = folder.resolve()
    if here in above:
        return []
    found: list[Path] = []
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found.extend(_visible_files(entry, above | {here}))
        elif entry.is_file():
            found.append(entry)
    return found
