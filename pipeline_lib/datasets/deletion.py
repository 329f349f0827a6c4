"""Delete raw images that nothing needs any more: downloads and unpacked copies only, never the user's own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from ..config.layouts import is_image_file
from ..files import read_json

NAME = "deleted.json"
"""Beside the manifest: what was deleted. A data set that is acquired again has none."""


def is_deleted(raw: Path) -> bool:
    """Whether the raw cases in the folder of a data set were deleted, so that their absence is not a fault."""
    note = raw / NAME
    return note.exists() and not read_json(note)["linked"]


def delete_images(manifest: Path, keep: Collection[Path]) -> dict[str, Any]:
    """Delete every image and label that the manifest lists except those to keep; return what deleted.json records.

    Descriptions (JSON, CSV, text) and archives stay, and so does everything of a folder that is only linked. May be
    called again after an interruption.
    """
    content = read_json(manifest)
    raw = manifest.parent.resolve()
    kept = {path.resolve() for path in keep}
    count = freed = 0
    for entry in () if content["linked"] else content["files"]:
        path = (raw / entry["path"]).resolve()
        if path in kept or not is_image_file(path) or not path.is_file() or not path.is_relative_to(raw):
            continue
        freed += path.stat().st_size
        count += 1
        path.unlink()
    return {"linked": content["linked"], "files": count, "bytes": freed, "labels_kept": len(kept)}
