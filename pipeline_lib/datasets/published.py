"""Where the files of a real data set come from: published addresses, or a folder or archive that the user has."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ..config.datasets import ARCHIVE_ENDINGS, Dataset, DownloadSource, LocalSource, RemoteFile
from ..errors import UserError
from ..files import read_json, write_json
from .archives import is_archive, unpack
from .download import RetryPolicy, Wanted
from .manifest import NAME as MANIFEST
from .transfers import fetch

STATE = ".acquire"
"""Folder inside the raw folder with partial files and notes of what is done."""


def download_dataset(
    dataset: Dataset, source: DownloadSource, raw: Path, keep_archives: bool, retry_policy: RetryPolicy | None = None
) -> None:
    """Fetch all files into `raw` and unpack the archives; whatever an earlier run finished is kept.

    Archives that are not to be kept go one by one, each as soon as it is unpacked.

    Raises UserError: one line that names the address, the archive or the disk.
    """
    remove_links(raw)
    wanted = _wanted(dataset, source, raw)
    skipped = {entry.case for entry in dataset.skip}
    archives = [file for file in wanted if is_archive(file.path)]
    packed = [file for file in archives if not _is_unpacked(_note(file, raw), _identity(file), raw, skipped)]
    fetch([file for file in wanted if file not in archives or file in packed], dataset.name, retry_policy)
    for file in archives:
        if file in packed:
            _unpack(file.path, _note(file, raw), _identity(file), raw, dataset)
        if not keep_archives:
            file.path.unlink(missing_ok=True)


def take_local(dataset: Dataset, source: LocalSource, raw: Path) -> bool:
    """Link the user's folder into `raw`, or unpack the user's archive there; neither is ever changed.

    Returns whether the files are links, so that they belong to the user. Raises UserError in one line.
    """
    path = local_path(dataset, source)
    remove_links(raw)
    if path.is_dir():
        _link(path.resolve(), raw, _where(dataset))
        return True
    status = path.stat()
    identity = {"path": str(path.resolve()), "size": status.st_size, "modified": status.st_mtime}
    note = raw / STATE / f"{path.name}.unpacked.json"
    skipped = {entry.case for entry in dataset.skip}
    if not _is_unpacked(note, identity, raw, skipped):
        _unpack(path, note, identity, raw, dataset)
    return False


def local_path(dataset: Dataset, source: LocalSource) -> Path:
    """The user's folder or archive; raises UserError if it is neither."""
    path = Path(source.path).expanduser()
    if not path.exists():
        raise UserError(_where(dataset), f"there is no {path}", "give the path of your folder or archive")
    if not path.is_dir() and not is_archive(path):
        wrong = f"{path} is neither a folder nor an archive ({', '.join(ARCHIVE_ENDINGS)})"
        raise UserError(_where(dataset), wrong, "give one of them")
    return path


def _where(dataset: Dataset) -> str:
    return f"data set {dataset.name}: source.path"


def _wanted(dataset: Dataset, source: DownloadSource, raw: Path) -> list[Wanted]:
    files = [_wanted_file(dataset, file, raw, "") for file in source.files]
    for case in dataset.used_cases:
        files += [_wanted_file(dataset, file, raw, case) for file in source.per_case]
    return files


def _wanted_file(dataset: Dataset, file: RemoteFile, raw: Path, case: str) -> Wanted:
    relative = PurePosixPath(file.path.replace("{case}", case))
    if relative.is_absolute() or ".." in relative.parts:
        raise UserError(f"data set {dataset.name}: source", f"path {file.path} leads out of the data set", "correct it")
    # The model's address type writes the braces of {case} as %7B and %7D.
    url = str(file.url).replace("%7Bcase%7D", quote(case)).replace("{case}", quote(case))
    path = raw / relative
    return Wanted(
        url=url,
        path=path,
        partial=raw / STATE / f"{relative}.part",
        md5=file.md5,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        unpacks_to=1.0 if is_archive(path) else 0.0,
    )


def _identity(file: Wanted) -> dict[str, Any]:
    return {"url": file.url, "md5": file.md5, "sha256": file.sha256, "size": file.size_bytes}


def _note(file: Wanted, raw: Path) -> Path:
    return raw / STATE / f"{file.path.relative_to(raw)}.unpacked.json"


def _unpack(archive: Path, note: Path, identity: dict[str, Any], raw: Path, dataset: Dataset) -> None:
    skipped = {entry.case for entry in dataset.skip}
    sizes = unpack(archive, raw, raw / STATE / "unpacking", skipped, dataset.root)
    write_json(note, {"archive": identity, "left_out": sorted(skipped), "files": sizes})


def _is_unpacked(note: Path, identity: dict[str, Any], raw: Path, skipped: set[str]) -> bool:
    """Whether every file of this version of the archive is in place; cases skipped since then do not matter."""
    try:
        done = read_json(note)
    except (OSError, json.JSONDecodeError):
        return False
    if done["archive"] != identity or not set(done["left_out"]) <= skipped:
        return False
    return all((raw / name).is_file() and (raw / name).stat().st_size == size for name, size in done["files"].items())


def _link(folder: Path, raw: Path, where: str) -> None:
    """Link each entry of the user's folder, so that the manifest need not lie among the user's files."""
    raw.mkdir(parents=True, exist_ok=True)
    if folder == raw.resolve():
        return
    for entry in sorted(folder.iterdir()):
        link = raw / entry.name
        if entry.name == MANIFEST or entry.name.startswith("."):
            continue
        if link.exists():
            raise UserError(where, f"{link} is in the way of a link to {entry}", f"remove {link}")
        link.symlink_to(entry, target_is_directory=entry.is_dir())


def remove_links(raw: Path) -> None:
    """Remove links of an earlier run, so that nothing is ever written through one into the user's folder."""
    if raw.is_dir():
        for entry in raw.iterdir():
            if entry.is_symlink():
                entry.unlink()
