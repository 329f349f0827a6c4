"""Does a file begin as its name says it should? Tells a file from what often stands in its place."""

from __future__ import annotations

from ..gzip_stream import AGAIN

HEAD_BYTES = 512

_BEGINNINGS = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".zip": b"PK"}


def content_problem(head: bytes, name: str) -> str | None:
    """What is wrong with a file called `name` that begins with `head`; None if nothing shows.

    Known impostors: an HTML or XML page sent with status 200, the pointer that Git LFS leaves where a file should be.
    """
    text = head[:HEAD_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    ending = "." + name.rpartition(".")[2].lower()
    if not head:
        return "it is empty"
    if ending not in (".html", ".htm") and text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "it is an HTML page instead of the file (a login, an error or a proxy?)"
    if ending != ".xml" and text.startswith(b"<?xml"):
        return "it is an XML message instead of the file"
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer instead of the file"
    wanted = _BEGINNINGS.get(ending)
    if wanted is not None and len(head) >= len(wanted) and not head.startswith(wanted):
        return f"it does not begin as a {ending} file does"
    return None


def disguise(head: bytes, name: str) -> tuple[str, str] | None:
    """What an image file called `name` that begins with `head` is instead, and the remedy; None if nothing shows."""
    lower = name.lower()
    sizes = [int.from_bytes(head[:4], order) for order in ("little", "big")] if len(head) >= 4 else []
    if not head:
        return "is empty (0 bytes)", AGAIN
    if head.startswith(b"\x1f\x8b") and not lower.endswith(".gz"):
        return "is compressed by gzip, which its name does not say", "add .gz to its name"
    if lower.endswith(".gz") and (348 in sizes or 540 in sizes):
        return "is a plain NIfTI file that is named .gz", "rename it to .nii, or compress it with gzip"
    if head[128:132] == b"DICM":
        return "is a DICOM file", "use the layout dicom, or convert the series to NIfTI"
    if problem := content_problem(head, lower):
        instead = problem.removeprefix("it ").removesuffix(" instead of the file")
        return instead, "run `git lfs pull`" if "Git LFS" in problem else AGAIN
    return None
