"""Trained models, kept by what they depend on: models/STAGE/FINGERPRINT/.

Snakemake deletes a rule's outputs before it runs the rule again, whatever made it do so. The outputs of every finished
training are therefore kept here too, as copies that nothing else writes, and a training whose identity
is known takes them from here in seconds. No rule declares this folder and nothing in the pipeline deletes it: remove
entries with `python -m pipeline_lib.tools.models` when you need the space. `about.json` says what an entry was trained
from.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import atomic_write, file_digest, read_json, write_json
from ..progress import say

if TYPE_CHECKING:
    from .distributed import Distributed
    from .identity import Identity

MODELS = Path("models")
_ABOUT = "about.json"


class ModelStore:
    """The kept outputs of one training of stage `stage`; `title` is what messages call it."""

    def __init__(self, stage: str, identity: Identity, title: str) -> None:
        self.identity, self.title = identity, title
        self.folder = MODELS / stage / identity.fingerprint

    def restored(self, distributed: Distributed, outputs: Sequence[Path]) -> bool:
        """Whether rank 0 has put the kept files in place; if not, it says why there is something to train."""
        done = distributed.is_main and self.restore(outputs)
        if distributed.is_main and not done:
            say(f"{self.title}: training starts or resumes ({self.why_train()})")
        return distributed.all_gather(done)[0]

    def restore(self, outputs: Sequence[Path]) -> bool:
        """Put the kept files in place as `outputs` (known by their names), if this training is known and intact."""
        about = read_about(self.folder)
        if about is None:
            return False
        if unknown := [path.name for path in outputs if path.name not in about["digests"]]:
            say(f"{self.title}: {self.folder} was kept without {', '.join(unknown)}: it is trained again")
            return False
        for path in outputs:
            if not self._has_intact(path.name, about):
                say(f"warning: {self.folder / path.name} is damaged or missing: {self.title} is trained again")
                return False
        for path in outputs:
            _copy(self.folder / path.name, path)
        say(f"{self.title}: already trained; restored from {self.folder}")
        return True

    def keep(self, outputs: Sequence[Path]) -> bool:
        """Keep the finished `outputs`; False, with a warning, if the disk refuses.

        Files of an earlier training of this identity that are intact stay, and take the place of the new ones: other
        trainings may have started from them.
        """
        added: list[Path] = []
        try:
            known = read_about(self.folder) or {"digests": {}}
            digests = {name: digest for name, digest in known["digests"].items() if self._has_intact(name, known)}
            for path in outputs:
                kept = self.folder / path.name
                if path.name in digests:
                    _copy(kept, path)
                else:
                    added.append(kept)
                    _copy(path, kept)
                    digests[path.name] = file_digest(kept)
            about = {
                "title": self.title,
                "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
                "digests": digests,
                "depends_on": dict(self.identity.parts),
            }
            write_json(self.folder / _ABOUT, about)
        except OSError as error:
            # What nobody lists would take space for ever.
            for path in added:
                with suppress(OSError):
                    path.unlink()
            say(f"warning: {self.title} is not kept in {self.folder}: {error.strerror} ({error.filename})")
            return False
        return True

    def _has_intact(self, name: str, about: Mapping[str, Any]) -> bool:
        """Whether the kept file is as `about` says."""
        kept = self.folder / name
        return kept.is_file() and file_digest(kept) == about["digests"][name]

    def why_train(self) -> str:
        """Why there is something to train: what differs from the newest kept training of the same title."""
        entries = [about for folder in kept_folders(self.folder.parent) if (about := read_about(folder))]
        known = [about for about in entries if about["title"] == self.title]
        if not known:
            return f"none is kept in {self.folder.parent}"
        newest = max(known, key=lambda about: about["finished"])
        changed = ", ".join(self.identity.differences(newest["depends_on"])) or "its files"
        return f"differs from the one finished {newest['finished']} in: {changed}"


def kept_folders(models: Path, pattern: str = "*") -> Iterator[Path]:
    """The folders in `models` that `pattern` names, but not those that an earlier version left half-written."""
    return (folder for folder in models.glob(pattern) if not folder.name.startswith("."))


def read_about(folder: Path) -> dict[str, Any] | None:
    """What `about.json` says of the kept training in `folder`; None if it is not one."""
    try:
        about = read_json(folder / _ABOUT)
        return about if {"title", "finished", "digests", "depends_on"} <= about.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _copy(source: Path, target: Path) -> None:
    """Copy a file; the copy is as new as files made now.

    Not a link: whoever writes into results/ in place must not change what is kept. Not an old file: Snakemake would
    make one that is older than its inputs again.
    """
    with atomic_write(target) as partial:
        shutil.copyfile(source, partial)
