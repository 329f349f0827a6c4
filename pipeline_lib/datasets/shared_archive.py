"""One archive that several data sets read: it lies beside their raw folders, and whichever comes first downloads it.

An archive is known by its address and stated checksums. It has a lock, since data sets are acquired side by side.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..config.datasets import RemoteFile, archive_identity
from ..files import fingerprint
from ..progress import say
from .download import Wanted
from .transfers import fetch

FOLDER = ".archives"
"""Folder of all shared archives, beside the raw folders of the data sets."""


class SharedArchive:
    """The archive `file`, as the data set whose raw folder is `raw` sees it."""

    def __init__(self, file: RemoteFile, raw: Path) -> None:
        self._file = file
        self._folder = raw.parent / FOLDER / fingerprint(*archive_identity(file))
        self.path = self._folder / PurePosixPath(file.path).name

    def fetch(self, title: str) -> None:
        """Download it unless it is there; raises UserError as `transfers.fetch` does. Call it with the lock."""
        wanted = Wanted(
            url=str(self._file.url),
            path=self.path,
            partial=self.path.with_name(f"{self.path.name}.part"),
            md5=self._file.md5,
            sha256=self._file.sha256,
            size_bytes=self._file.size_bytes,
        )
        fetch([wanted], title)

    def delete(self) -> None:
        """Remove it with all that is known of its download. Call it with the lock."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def locked(self, title: str) -> Iterator[None]:
        """Keep other data sets from fetching or deleting it for as long as the block lasts."""
        lock = self._folder.with_name(f"{self._folder.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{title}: waiting for another data set that has {self.path.name}")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                say(f"warning: {lock} cannot be locked ({error.strerror}): acquire one data set at a time")
            yield
