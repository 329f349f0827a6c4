"""All files of a data set: several at once, with the progress of them all; what an earlier run fetched is kept."""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import requests

from ..errors import UserError
from ..files import read_json, write_json
from ..progress import Progress
from .checksums import Checksums
from .download import Download, DownloadStoppedError, RetryPolicy, Wanted

_CONNECTIONS = 4
_MEGABYTE = 1_000_000
_RESERVE_BYTES = 100 * _MEGABYTE


def fetch(wanted: Sequence[Wanted], title: str, retry_policy: RetryPolicy | None = None) -> None:
    """Download every file that is not there yet.

    Parameters
    ----------
    title: what the progress line calls them.

    Raises
    ------
    UserError: the first file that cannot be had, or too little free disk. The others stop and keep what has arrived.
    """
    retry_policy = retry_policy or RetryPolicy()
    missing = [file for file in wanted if not is_fetched(file)]
    if not missing:
        return
    sizes = _sizes(missing, retry_policy)
    known = sum(size or 0 for size in sizes)
    space = sum(
        (size or 0) * (1 + file.unpacks_to) - _size_of(file.partial) for file, size in zip(missing, sizes, strict=True)
    )
    need_space(missing[0].path.parent, space, title)
    stop = threading.Event()
    meter = _Meter(title, known, sum(_size_of(file.partial) for file in missing), all_known=None not in sizes)
    with ThreadPoolExecutor(max_workers=_CONNECTIONS) as pool:
        jobs = [pool.submit(_fetch_one, file, meter, stop, retry_policy) for file in missing]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    meter.finish()


def is_fetched(wanted: Wanted) -> bool:
    """Whether the file is in place: moved there by an earlier run, or by the user and equal to what is stated."""
    size = _size_of(wanted.path)
    if not wanted.path.is_file():
        return False
    if wanted.size_bytes is not None and size != wanted.size_bytes:
        return False
    if _receipt(wanted, size) == _read(receipt_path(wanted)):
        return True
    if not wanted.checksums:
        return wanted.size_bytes is not None
    checksums = Checksums(wanted.checksums)
    checksums.catch_up(wanted.path)
    return checksums.disagreement() is None


def receipt_path(wanted: Wanted) -> Path:
    """Where stands that this file was fetched and verified."""
    return wanted.partial.with_name(wanted.partial.name + ".fetched.json")


def need_space(folder: Path, needed: float, title: str) -> None:
    """Raise UserError with the gigabytes needed and free, unless the disk of `folder` has room for `needed` bytes."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed + _RESERVE_BYTES > free:
        wrong = f"{title} needs {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free"
        raise UserError(str(folder), wrong, "free some space, or work on a larger disk")


class _Meter:
    """Bytes of all files together, from several threads; the rate counts what arrives in this run."""

    def __init__(self, title: str, total: int, there: int, all_known: bool) -> None:
        self._bytes, self._there, self._all_known = 0, there, all_known
        self._progress = Progress(title, _megabytes(total), "MB", done=there // _MEGABYTE)
        self._lock, self._started = threading.Lock(), time.monotonic()

    def count(self, arrived: int) -> None:
        with self._lock:
            self._bytes += arrived
            done = self._bytes // _MEGABYTE
            if done > self._progress.done:
                # A file whose size nobody told makes the total grow; the end is for `finish` to tell.
                self._progress.total = max(self._progress.total, done + 1)
                self._progress.advance(done - self._progress.done, self._rate())

    def finish(self) -> None:
        with self._lock:
            self._progress.total = _megabytes(self._bytes)
            self._progress.advance(self._progress.total - self._progress.done, self._rate())

    def _rate(self) -> str:
        elapsed = max(time.monotonic() - self._started, 1e-3)
        rate = f"{max(self._bytes - self._there, 0) / elapsed / 1e6:.1f} MB/s"
        return rate if self._all_known else f"{rate}, some sizes unknown"


def _fetch_one(wanted: Wanted, meter: _Meter, stop: threading.Event, retry_policy: RetryPolicy) -> None:
    try:
        with requests.Session() as session:
            Download(wanted, session, meter.count, stop, retry_policy).run()
    except DownloadStoppedError:
        return
    write_json(receipt_path(wanted), _receipt(wanted, _size_of(wanted.path)))


def _sizes(wanted: Sequence[Wanted], retry_policy: RetryPolicy) -> list[int | None]:
    """Bytes of each file: as stated, as an earlier attempt learned them, or as the server says when it is asked."""
    with ThreadPoolExecutor(max_workers=_CONNECTIONS) as pool:
        return list(pool.map(lambda file: file.size_bytes or _size_at_server(file, retry_policy), wanted))


def _size_at_server(wanted: Wanted, retry_policy: RetryPolicy) -> int | None:
    """The size in the server's headers; None where it does not tell, for the download will meet what is wrong."""
    try:
        headers = {"Accept-Encoding": "identity"}
        answer = requests.head(wanted.url, headers=headers, allow_redirects=True, timeout=retry_policy.stall)
        length = answer.headers.get("Content-Length", "")
        return int(length) if answer.ok and length.isdigit() else None
    except requests.RequestException:
        return None


def _receipt(wanted: Wanted, size: int) -> dict[str, str | int | None]:
    return {"url": wanted.url, "md5": wanted.md5, "sha256": wanted.sha256, "size": size}


def _read(path: Path) -> object:
    try:
        return read_json(path)
    except (OSError, json.JSONDecodeError):
        return None


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _megabytes(count: int) -> int:
    return math.ceil(count / _MEGABYTE)
