"""One owner at a time for the folder of a training.

After `kill -9` of Snakemake its trainings live on, and the same call would start a second process on the same folder:
two writers of one history and of one set of checkpoints. The second one waits for the first, and then finds its model
(training.model_store). After an edit of the settings it would be two writers of the same outputs.

The lock is the kernel's (flock) and ends with its process and those that it has forked, however they end. It reaches as
far as the file system's locks do: NFS 4 and Lustre mounted with `flock` lock across nodes; NFS 3 without its lock
daemon, and Lustre with `localflock`, lock within one node only, so two nodes are not kept apart there. A file system
without locks gets a warning and no protection.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..progress import say
from .distributed import Distributed

_SECONDS_BETWEEN_TRIES = 2.0


@contextmanager
def locked_training(folder: Path, run: str, distributed: Distributed, title: str) -> Iterator[None]:
    """Own the outputs of `run`, which a training of settings edited since may be writing, and then its `folder`.

    All ranks call this, for folders whose siblings are those of the same stage.
    """
    with locked_folder(folder.with_name(run), distributed, title), locked_folder(folder, distributed, title):
        yield


@contextmanager
def locked_folder(folder: Path, distributed: Distributed, title: str) -> Iterator[None]:
    """Own `folder` for as long as the block lasts; waits for another owner, of which one line tells.

    All ranks call this. The lock is the file `folder`.lock, in which the owner's identity stands.
    """
    path = folder.with_name(f"{folder.name}.lock")
    file = _wait_for_lock(path, distributed, title)
    try:
        yield
    finally:
        if file is not None:
            path.unlink(missing_ok=True)
            file.close()


def _wait_for_lock(path: Path, distributed: Distributed, title: str) -> TextIO | None:
    told = False
    while True:
        mine = _try_lock(path) if distributed.is_main else None
        # Ranks that waited in a collective for hours would reach its timeout.
        if distributed.all_gather(mine is not None)[0]:
            return mine
        if distributed.is_main and not told:
            say(f"{title}: waiting for {_owner(path)}, which writes the same files (to end that one: kill its process)")
            told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _try_lock(path: Path) -> TextIO | None:
    """The locked file, None if another process has it; on a file system without locks an unlocked one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError as error:
        say(f"warning: {path} cannot be locked ({error.strerror}): do not start this training twice at the same time")
        return file
    if not _is_still_there(path, file):
        file.close()
        return None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    file.flush()
    return file


def _is_still_there(path: Path, file: TextIO) -> bool:
    """Whether `path` is still `file`: the owner before may have deleted it between our opening and our locking it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except OSError:
        return "another process"
