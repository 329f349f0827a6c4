"""One file from an address to the disk: resumed, verified, and moved into place only when it is right.

What has arrived lies in a partial file; a note beside it records the version that it belongs to (ETag, date, size).
Each attempt asks for the rest of that version only, so a file that its publisher changes between two attempts is
fetched from the start and never mixed. Every failure leads to another attempt or to a one-line error, never to a wrong
file.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

import requests
import urllib3

from ..errors import UserError
from .checksums import Checksums
from .content import content_problem
from .partial import PartialFile, Version

_CHUNK_BYTES = 1 << 20
_WORTHWHILE_BYTES = 1 << 16
_BUSY = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to retry; times in seconds."""

    attempts: int = 8
    """Consecutive attempts that may bring nothing new."""
    restarts: int = 3
    """How often a file may be fetched from the start because something else arrived."""
    first_pause: float = 1.0
    """Pause after the first failure; it doubles after each."""
    longest_pause: float = 60.0
    longest_wait: float = 600.0
    """Longest pause that a server may ask for (Retry-After) before the download gives up."""
    stall: float = 60.0
    """Silence after which a connection is considered dead."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: source, destination, place of its partial file, and what its publisher states about it."""

    url: str
    path: Path
    partial: Path
    md5: str | None = None
    sha256: str | None = None
    size_bytes: int | None = None
    unpacks_to: float = 0.0
    """Bytes that each of its bytes takes once more when it is unpacked."""

    @property
    def checksums(self) -> dict[str, str]:
        """The checksums that the publisher states, by their names."""
        stated = {"md5": self.md5, "sha256": self.sha256}
        return {name: value for name, value in stated.items() if value is not None}


class DownloadStoppedError(Exception):
    """Another file of the same data set failed for good, so this one was left as it is."""


class _FailedAttemptError(Exception):
    """An attempt failed in a way that another may not. `pause` is how long the server asks to wait, in seconds."""

    def __init__(self, problem: str, restart: bool = False, pause: float | None = None) -> None:
        super().__init__(problem)
        self.restart, self.pause = restart, pause


class Download:
    """One file on its way.

    Parameters
    ----------
    count: is told how many bytes have arrived; a negative number takes bytes back that turned out useless.
    stop: ends the download at the next chunk when it is set.
    """

    def __init__(
        self,
        wanted: Wanted,
        session: requests.Session,
        count: Callable[[int], None],
        stop: threading.Event,
        retry_policy: RetryPolicy,
    ) -> None:
        self.wanted, self.retry_policy = wanted, retry_policy
        self._session, self._count, self._stop = session, count, stop
        self._partial = PartialFile(wanted.partial, wanted.url, may_resume_unknown=bool(wanted.checksums))
        self._checksums = Checksums(wanted.checksums)

    def run(self) -> None:
        """Fetch the file and move it into place.

        Raises
        ------
        UserError: one line with the address, what went wrong last and what to do. What has arrived is kept.
        DownloadStoppedError: `stop` was set meanwhile.
        """
        self._count(self._partial.size)
        furthest, failures, restarts = self._partial.size, 0, 0
        while True:
            try:
                if not self._partial.is_complete:
                    self._attempt()
                self._verify()
                self._partial.move_to(self.wanted.path)
                return
            except _FailedAttemptError as failure:
                if failure.restart:
                    restarts += 1
                    self._discard()
                progressed = self._partial.size >= furthest + _WORTHWHILE_BYTES
                furthest = max(furthest, self._partial.size)
                failures = 1 if progressed else failures + 1
                if failures >= self.retry_policy.attempts or restarts >= self.retry_policy.restarts:
                    raise self._given_up(failure) from failure
                pause = min(self.retry_policy.first_pause * 2 ** (failures - 1), self.retry_policy.longest_pause)
                self._wait(pause if failure.pause is None else failure.pause)
            except OSError as error:
                raise self._disk_error(error) from error

    def _attempt(self) -> None:
        """One request, for the whole file or for the rest of it; ends when all of it has arrived."""
        asked_from = self._partial.size
        # A packed transfer would make sizes and ranges count something else than the file's own bytes.
        headers = {"Accept-Encoding": "identity", **self._partial.range_request()}
        timeouts = (self.retry_policy.stall, self.retry_policy.stall)
        try:
            with self._session.get(self.wanted.url, headers=headers, stream=True, timeout=timeouts) as response:
                self._check_status(response)
                self._check_kind(response)
                self._begin(response, asked_from)
                self._receive(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _FailedAttemptError(_reason(error)) from error
        expected = self._partial.size_expected
        if expected is not None and self._partial.size < expected:
            raise _FailedAttemptError(f"the connection ended after {self._partial.size} of {expected} bytes")

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        answer = f"the server answers {status} {response.reason or ''}".rstrip()
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _FailedAttemptError(f"{answer}, so the file is shorter than it was", restart=True)
        if status not in _BUSY:
            remedy = "look whether the publisher has moved the file, then correct its `url`"
            raise UserError(self.wanted.url, answer, remedy)
        pause = _retry_after(response.headers.get("Retry-After"))
        if pause is not None and pause > self.retry_policy.longest_wait:
            wrong = f"{answer} and asks to come back in {pause:.0f} s"
            raise UserError(self.wanted.url, wrong, "run again then; it resumes where it stopped")
        raise _FailedAttemptError(answer, pause=pause)

    def _check_kind(self, response: requests.Response) -> None:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml") and self.wanted.path.suffix not in (".html", ".htm"):
            raise _FailedAttemptError(
                "the server sends an HTML page instead of the file (a login, an error or a proxy?)"
            )
        packed = response.headers.get("Content-Encoding", "identity")
        if packed != "identity" and not self.wanted.checksums:
            raise _FailedAttemptError(f"the server packs the file ({packed}) though it was asked not to")

    def _begin(self, response: requests.Response, asked_from: int) -> None:
        """Make sure that what comes continues what is there, or clear the way for the whole file."""
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            version, start = Version.of_part(response.headers)
            if asked_from == 0 or start != asked_from or not self._partial.continues(version):
                self._partial.distrust_ranges()
                raise _FailedAttemptError("the server answers with another part than was asked for", restart=True)
            return
        version = Version.of_whole(response.headers)
        stated = self.wanted.size_bytes
        self._discard()
        self._partial.begin(version, stated)
        if stated is not None and version.size not in (None, stated):
            raise _FailedAttemptError(f"the server's file has {version.size} bytes, not {stated}", restart=True)
        is_delimited = version.size is not None or "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        if not is_delimited and stated is None and not self.wanted.checksums:
            raise UserError(
                self.wanted.url,
                "the server does not say how long the file is, so a cut could not be told from its end",
                "state its size_bytes, md5 or sha256 in the data set's file",
            )

    def _receive(self, response: requests.Response) -> None:
        self._checksums.catch_up(self._partial.file)
        with self._partial.open_at_end() as file:
            while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
                if self._stop.is_set():
                    raise DownloadStoppedError
                if file.tell() == 0 and (problem := content_problem(chunk, self.wanted.path.name)):
                    raise _FailedAttemptError(problem)
                file.write(chunk)
                self._checksums.update(chunk)
                self._count(len(chunk))
                expected = self._partial.size_expected
                if expected is not None and file.tell() > expected:
                    raise _FailedAttemptError("the server sends more than the file holds", restart=True)

    def _verify(self) -> None:
        """Compare what has arrived with everything known about the file."""
        stated = self.wanted.size_bytes
        if stated is not None and self._partial.size != stated:
            raise _FailedAttemptError(f"{self._partial.size} bytes arrived instead of {stated}", restart=True)
        if problem := content_problem(self._partial.head(), self.wanted.path.name):
            raise _FailedAttemptError(problem, restart=True)
        self._checksums.catch_up(self._partial.file)
        if wrong := self._checksums.disagreement():
            raise _FailedAttemptError(wrong, restart=True)

    def _discard(self) -> None:
        self._count(-self._partial.size)
        self._partial.discard()

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise DownloadStoppedError

    def _given_up(self, failure: _FailedAttemptError) -> UserError:
        remedy = (
            "check whether the publisher has changed the file, then correct its entry in the data set's file"
            if failure.restart
            else "run again later; it resumes where it stopped"
        )
        return UserError(self.wanted.url, f"cannot be downloaded: {failure}", remedy)

    def _disk_error(self, error: OSError) -> UserError:
        where = str(self.wanted.path)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return UserError(where, "the disk is full", "free some space and run again; it resumes where it stopped")
        wrong = f"cannot be written ({os.strerror(error.errno or 0)})"
        return UserError(where, wrong, "fix that and run again; it resumes where it stopped")


def _retry_after(value: str | None) -> float | None:
    """Seconds that the server asks to wait, from a number or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _reason(error: Exception) -> str:
    """A network error in the words of a person; libraries nest them deeply."""
    text = str(error)
    for sign, words in (
        ("timed out", "the server stopped answering"),
        ("NameResolution", "its name cannot be resolved (is there a network?)"),
        ("refused", "the server refuses the connection"),
        ("reset", "the server cut the connection"),
        ("IncompleteRead", "the connection ended too early"),
        ("certificate", "its certificate is not trusted"),
    ):
        if sign in text:
            return words
    return " ".join(text.split())[:200] or type(error).__name__
