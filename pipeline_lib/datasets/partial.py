"""The part of a file that has arrived, and the version of the file that it is a part of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..files import read_json, write_json
from .content import HEAD_BYTES


@dataclass(frozen=True)
class Version:
    """What a server says about the file that it sends; `size` in bytes."""

    etag: str | None
    modified: str | None
    size: int | None

    @classmethod
    def of_whole(cls, headers: Mapping[str, str]) -> Version:
        length = headers.get("Content-Length", "")
        return cls(headers.get("ETag"), headers.get("Last-Modified"), int(length) if length.isdigit() else None)

    @classmethod
    def of_part(cls, headers: Mapping[str, str]) -> tuple[Version, int | None]:
        """The version, and the byte at which the part begins (None: the answer does not say)."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", "").strip())
        start, size = (int(match[1]), int(match[2])) if match else (None, None)
        return cls(headers.get("ETag"), headers.get("Last-Modified"), size), start

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, else the date."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.modified


class PartialFile:
    """A file that grows over several attempts and several runs.

    `may_resume_unknown`: a part whose version no header tells may be continued too, since a checksum will tell.
    """

    def __init__(self, file: Path, url: str, may_resume_unknown: bool) -> None:
        self.file, self._url, self._may_resume_unknown = file, url, may_resume_unknown
        self._note = file.with_name(file.name + ".json")
        self._version: Version | None = None
        self._stated_size: int | None = None
        self._trusts_ranges = True
        self._take_up()

    @property
    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    @property
    def size_expected(self) -> int | None:
        """Bytes of the whole file, once it is known."""
        known = self._version.size if self._version is not None else None
        return known if known is not None else self._stated_size

    @property
    def is_complete(self) -> bool:
        return self._version is not None and self.size_expected is not None and self.size == self.size_expected

    def head(self) -> bytes:
        if not self.file.exists():
            return b""
        with self.file.open("rb") as file:
            return file.read(HEAD_BYTES)

    def range_request(self) -> dict[str, str]:
        """Headers that ask for the rest, where there is a part that may be continued; else none."""
        if self._version is None or self.size == 0 or not self._trusts_ranges:
            return {}
        validator = self._version.validator
        if validator is None and not self._may_resume_unknown:
            return {}
        asked = {"Range": f"bytes={self.size}-"}
        return asked if validator is None else {**asked, "If-Range": validator}

    def continues(self, version: Version) -> bool:
        """Whether a part of `version` continues what is here."""
        return self._version is not None and (
            version.size == self.size_expected
            and version.etag == self._version.etag
            and (self._version.etag is not None or version.modified == self._version.modified)
        )

    def distrust_ranges(self) -> None:
        """Ask for the whole file from now on."""
        self._trusts_ranges = False

    def begin(self, version: Version, stated_size: int | None) -> None:
        """Drop what is here: the whole of `version` comes."""
        self.discard()
        self._version, self._stated_size = version, stated_size
        write_json(self._note, {"url": self._url, "stated_size": stated_size, **asdict(version)})

    def open_at_end(self) -> BinaryIO:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return self.file.open("ab")

    def discard(self) -> None:
        self.file.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._version = None

    def move_to(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("rb") as file:
            os.fsync(file.fileno())
        self.file.replace(path)
        self._note.unlink(missing_ok=True)

    def _take_up(self) -> None:
        """Resume with what an earlier run left, if it is a part of the same address and not longer than the file."""
        try:
            note: dict[str, Any] = read_json(self._note)
            if note.pop("url") == self._url:
                self._stated_size = note.pop("stated_size")
                self._version = Version(**note)
        except (OSError, json.JSONDecodeError, KeyError, TypeError):
            self._version = None
        too_long = self.size_expected is not None and self.size > self.size_expected
        if self._version is None or too_long:
            self.discard()
