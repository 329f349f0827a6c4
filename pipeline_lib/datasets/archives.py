"""Unpack a published archive (.tar, .tar.gz, .zip) without trusting it.

Members are written into a staging folder and moved into place when the whole archive is there, so an interrupted
extraction starts over and never leaves half of the files in place. Refused, by name: absolute paths, `..`, links,
devices, encrypted or damaged members, and sizes that no archive of images has.
"""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..config.datasets import ARCHIVE_ENDINGS
from ..errors import UserError
from ..progress import Progress
from .transfers import need_space

_LARGEST_RATIO = 100
_SLACK_BYTES = 100_000_000
_MEGABYTE = 1_000_000
_CHUNK_BYTES = 1 << 22
_LARGEST_IN_MEMORY = 1 << 28
_ENCRYPTED = 0x1
_AGAIN = "download it again; if it stays so, name its case in `skip`"
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, RuntimeError, NotImplementedError)


@dataclass(frozen=True)
class _Member:
    """A regular file inside an archive; `size` is what the archive says of its bytes."""

    name: str
    size: int
    opened: IO[bytes]


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_ENDINGS)


def unpack(
    archive: Path, folder: Path, staging: Path, leave_out: Collection[str] = (), root: str = "."
) -> dict[str, int]:
    """Unpack `archive` into `folder` and return the size of each file by its path below it.

    Parameters
    ----------
    root: the folder inside `folder` where the files belong; it is made for an archive that does not bring it.
    staging: a folder on the same disk as `folder`; whatever an interrupted extraction left there is removed.
    leave_out: cases whose files are not unpacked; one that is to be skipped may be the very one that is damaged.

    Raises
    ------
    UserError: one line that names the archive and the member.
    """
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        sizes = _extract(archive, staging, leave_out)
        brings_root = any(PurePosixPath(name).is_relative_to(root) for name in sizes)
        below = PurePosixPath("." if brings_root else root)
        for name in sizes:
            target = folder / below / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {str(below / name): size for name, size in sizes.items()}


def read_members(archive: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each of the `wanted` members, in the archive's order, without unpacking anything.

    A folder that holds all of the archive, as repositories' archives have one, is not part of the names. Raises
    UserError in one line that names the archive and the member.
    """
    left = set(wanted)
    with _members(archive) as members:
        for member in members:
            path = PurePosixPath(member.name)
            name = next((name for name in (str(path), "/".join(path.parts[1:])) if name in left), None)
            if name is None:
                continue
            if member.size > _LARGEST_IN_MEMORY:
                raise _refused(archive, member.name, f"has {member.size / 1e9:.1f} GB, which no such file has")
            left.remove(name)
            yield name, b"".join(iter(lambda opened=member: _read(archive, opened), b""))
            if not left:
                return


def _extract(archive: Path, staging: Path, leave_out: Collection[str]) -> dict[str, int]:
    packed = archive.stat().st_size
    most = _LARGEST_RATIO * packed + _SLACK_BYTES
    progress = Progress(f"unpack {archive.name}", max(packed // _MEGABYTE, 1), "MB")
    sizes: dict[str, int] = {}
    total = 0
    with _members(archive) as members:
        for member in members:
            path = _safe_path(archive, member.name)
            if path is None or _is_of_case(path, leave_out):
                continue
            total += member.size
            if total > most:
                wrong = f"member {member.name} brings the unpacked size to {total / 1e9:.1f} GB"
                raise UserError(
                    str(archive), wrong, f"no archive of images grows {_LARGEST_RATIO}-fold; do not trust it"
                )
            need_space(staging, member.size, f"member {member.name} of {archive.name}")
            _write(archive, member, staging / path)
            sizes[str(path)] = member.size
            done = min(total // _MEGABYTE, progress.total - 1)
            if done > progress.done:
                progress.advance(done - progress.done)
    progress.advance(max(progress.total - progress.done, 0))
    if not sizes:
        raise UserError(str(archive), "holds no files", _AGAIN)
    return sizes


def _safe_path(archive: Path, name: str) -> PurePosixPath | None:
    """The member's path below the archive's folder; None for the litter of macOS; refuses one that leads outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or re.match(r"[A-Za-z]:", name):
        raise _refused(archive, name, "has an absolute path")
    if ".." in path.parts:
        raise _refused(archive, name, "leads out of the folder")
    if any(part.startswith("._") or part in ("__MACOSX", ".DS_Store") for part in path.parts):
        return None
    return path


def _is_of_case(path: PurePosixPath, cases: Collection[str]) -> bool:
    """Whether a folder of the path, or the file without its ending and channel, bears the name of one of the cases."""
    for part in path.parts:
        stem = re.sub(r"(\.nii)?(\.gz)?$", "", part)
        if stem in cases or re.sub(r"_\d{4}$", "", stem) in cases:
            return True
    return False


def _write(archive: Path, member: _Member, path: Path) -> None:
    """Write no more than the member's stated size, and no less."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while chunk := _read(archive, member):
            file.write(chunk)
        if file.tell() != member.size:
            wrong = f"member {member.name} has {file.tell()} bytes, not the {member.size} that the archive says"
            raise UserError(str(archive), wrong, _AGAIN)


def _read(archive: Path, member: _Member) -> bytes:
    try:
        return member.opened.read(_CHUNK_BYTES)
    except _DAMAGED as error:
        raise _damaged(archive, f"member {member.name}", error) from error


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """The regular files of an archive, in its order; a folder is left out, anything else is refused."""
    try:
        is_zip = archive.name.lower().endswith(".zip")
        opened = zipfile.ZipFile(archive) if is_zip else tarfile.TarFile.open(archive)
    except _DAMAGED as error:
        raise _damaged(archive, "the archive", error) from error
    with opened:
        yield _zip_members(archive, opened) if isinstance(opened, zipfile.ZipFile) else _tar_members(archive, opened)


def _zip_members(archive: Path, opened: zipfile.ZipFile) -> Iterator[_Member]:
    for info in opened.infolist():
        if info.is_dir():
            continue
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise _refused(archive, info.filename, "is a link" if kind == stat.S_IFLNK else "is not a regular file")
        if info.flag_bits & _ENCRYPTED:
            raise _refused(archive, info.filename, "is encrypted")
        try:
            content = opened.open(info)
        except _DAMAGED as error:
            raise _damaged(archive, f"member {info.filename}", error) from error
        with content:
            yield _Member(info.filename, info.file_size, content)


def _tar_members(archive: Path, opened: tarfile.TarFile) -> Iterator[_Member]:
    while True:
        try:
            info = opened.next()
            if info is None:
                return _read_to_end(archive, opened)
        except _DAMAGED as error:
            raise _damaged(archive, "the archive", error) from error
        if info.isdir():
            continue
        if not info.isreg():
            raise _refused(archive, info.name, "is a link" if info.issym() or info.islnk() else "is a device")
        content = opened.extractfile(info)
        assert content is not None, "a regular file has content"
        with content:
            yield _Member(info.name, info.size, content)


def _read_to_end(archive: Path, opened: tarfile.TarFile) -> None:
    """Look for the mark that ends a tar, and let gzip check its sum: tarfile takes a cut header for the end."""
    opened.fileobj.seek(opened.offset)
    mark = opened.fileobj.read(tarfile.BLOCKSIZE)
    if len(mark) < tarfile.BLOCKSIZE or any(mark):
        raise UserError(str(archive), "ends before its end mark, so it is cut or damaged", _AGAIN)
    while opened.fileobj.read(_CHUNK_BYTES):
        pass


def _refused(archive: Path, name: str, wrong: str) -> UserError:
    return UserError(str(archive), f"member {name} {wrong}", "do not trust this archive; nothing of it was kept")


def _damaged(archive: Path, what: str, error: Exception) -> UserError:
    return UserError(str(archive), f"{what} is damaged ({error or type(error).__name__})", _AGAIN)
