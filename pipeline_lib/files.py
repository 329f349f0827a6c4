"""Atomic writes, JSON, and names for contents."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import UserError

RUN_FILE = "run.json"
"""In the folder of a training under way, whose name is a fingerprint: tells people and tools which run it is."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a full disk, and of a user's full share of it."""
_NEARLY_NOTHING_BYTES = 1 << 20
"""Less than this free is a full disk: what did not fit was larger."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` (same suffix) that becomes `path` if the block succeeds.

    The file gets the mode that the umask gives, whatever the library that wrote it chose. OSError if the disk, or
    the user's share of it, is full, whatever exception the library made of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # ITK goes by the whole of .nii.gz.
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial{suffix}")
    partial.touch()
    mode = partial.stat().st_mode & 0o777
    partial.unlink()
    try:
        yield partial
        if _is_full(path.parent):
            # ITK ends well after writing half a file.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        partial.chmod(mode)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    except Exception as error:
        _raise_if_full(path, error)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path` that replaces `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    except Exception as error:
        _raise_if_full(path, error)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_writable(folder: Path, remedy: str) -> None:
    """Make `folder` if it is not there; raises UserError if it cannot be made, or nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".lacuna"):
            pass
    except OSError as error:
        raise UserError(str(folder), f"cannot be written ({error.strerror})", remedy) from error


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, or the user's share of it, is full."""
    return _code(error) in _FULL


def disk_full(error: BaseException, fallback: Path, remedy: str) -> UserError:
    """What did not fit in words: the file that the error names, or else `fallback`."""
    name = getattr(error, "filename", None)
    where = Path(name) if isinstance(name, str) else fallback
    free = shutil.disk_usage(next(folder for folder in (where, *where.absolute().parents) if folder.is_dir())).free
    said = getattr(error, "strerror", None) or error
    return UserError(str(where), f"does not fit on the disk, where {free / 1e9:.1f} GB are free now ({said})", remedy)


def _code(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _is_full(folder: Path) -> bool:
    return shutil.disk_usage(folder).free < _NEARLY_NOTHING_BYTES


def _raise_if_full(path: Path, error: Exception) -> None:
    """OSError that names `path`, if the disk is full, which is known only while the partial file is still there."""
    if isinstance(error, UserError):
        return
    # safetensors says why it failed in words alone, blosc2 and ITK do not say it at all.
    said = next((code for code in _FULL if _code(error) == code or os.strerror(code) in str(error)), None)
    if said is None and _is_full(path.parent):
        said = errno.ENOSPC
    if said is not None:
        raise OSError(said, os.strerror(said), str(path)) from error


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def read_json_lines(path: Path, growing: bool = False) -> list[dict[str, Any]]:
    """The objects of a file with one JSON object per line; of a `growing` one, without a half-written last line.

    UserError: the file cannot be read, or a line is not an object.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise UserError(str(path), f"cannot be read ({error.strerror})", "check the path") from error
    if growing and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            remedy = "delete it and run the pipeline again: a finished training's copy is restored from models/"
            raise UserError(str(path), f"is damaged in line {number}, which is not a JSON object", remedy)
        rows.append(row)
    return rows


def file_digest(path: Path) -> str:
    """32 hexadecimal digits that name the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def fingerprint(*parts: str | bytes | Path) -> str:
    """20 hexadecimal digits that name the contents of `parts`, in order; a path stands for its file's content."""
    total = hashlib.blake2b(digest_size=10)
    for part in parts:
        if isinstance(part, Path):
            content = file_digest(part).encode()
        else:
            content = part.encode() if isinstance(part, str) else part
        # Lengths keep ("ab", "c") and ("a", "bc") apart.
        total.update(len(content).to_bytes(8, "little") + content)
    return total.hexdigest()
