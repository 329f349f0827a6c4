"""Does a file begin as its name says it should? Tells a file from the page that a server sends in its place."""

from __future__ import annotations

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
