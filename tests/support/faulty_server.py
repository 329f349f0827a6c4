"""A local HTTP server that serves files well, unless it is told to fail in a named way for the next requests."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"


@dataclass(frozen=True)
class Fault:
    """What the server does instead of serving; `after` bytes of the body are sent before it."""

    kind: str
    after: int = 0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class FaultyServer:
    """`files` by path; GET requests use up the `faults` of a path in order; `requests` are (method, path, Range)."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.changes: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str | None]] = []
        self.has_etags = True
        self.released = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = _QuietServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{path}"

    def gets(self, path: str) -> list[str | None]:
        """The Range header of each GET of this path."""
        return [asked for method, name, asked in self.requests if method == "GET" and name == path]

    def close(self) -> None:
        self.released.set()
        # `shutdown` of a server waits for ever where its thread does not get to run.
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server's thread has not ended"
        self._server.server_close()

    def _serve(self) -> None:
        while not self.released.is_set():
            self._server.handle_request()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    timeout = 0.01

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = self.path.lstrip("/")
        self.owner.requests.append((self.command, path, self.headers.get("Range")))
        faults = self.owner.faults[path]
        fault = faults.popleft() if with_body and faults else Fault("none")
        if fault.kind == "changed":
            self.owner.files[path] = self.owner.changes[path]
        content = self.owner.files.get(path)
        if fault.kind == "status":
            return self._send(fault.status, b"busy", fault.headers)
        if content is None:
            return self._send(404, b"no such file", {})
        if fault.kind == "page":
            return self._send(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        if fault.kind == "disguised_page":
            return self._send(200, PAGE, {"Content-Type": "application/octet-stream"})
        start = self._start_of_range(content)
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if self.owner.has_etags:
            headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        if start is None or fault.kind == "ignores_range":
            start, status = 0, 200
        elif start >= len(content):
            return self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            status = 206
            claimed, size = start, len(content)
            if fault.kind == "wrong_start":
                claimed = start = max(0, start - 1000)
            if fault.kind == "wrong_size":
                size += 1
            if fault.kind == "no_content_range":
                headers.pop("Content-Range", None)
            else:
                headers["Content-Range"] = f"bytes {claimed}-{len(content) - 1}/{size}"
        body = content[start:]
        if fault.kind == "damaged" and len(body) > 100:
            body = body[:50] + bytes([body[50] ^ 0xFF]) + body[51:]
        if fault.kind == "too_long" and status == 206:
            body += b"surplus"
        if fault.kind == "no_length":
            return self._send_until_close(status, body, headers)
        if fault.kind == "cut_chunks":
            return self._send_cut_chunks(status, body[: fault.after], headers)
        self._head(status, headers, len(body))
        if not with_body:
            return None
        if fault.kind in ("truncated", "reset", "stalled"):
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            return self._break(fault.kind)
        self.wfile.write(body)
        return None

    def _start_of_range(self, content: bytes) -> int | None:
        """First byte asked for; None where the whole file is, or where If-Range names another version."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match is None:
            return None
        wanted = self.headers.get("If-Range")
        if wanted is not None and wanted != f'"{hashlib.md5(content).hexdigest()}"':
            return None
        return int(match[1])

    def _head(self, status: int, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, headers, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _send_until_close(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, {**headers, "Connection": "close"}, None)
        self.wfile.write(body)
        self.close_connection = True

    def _send_cut_chunks(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._head(status, {**headers, "Transfer-Encoding": "chunked"}, None)
        self.wfile.write(b"%x\r\n" % len(body) + body + b"\r\n")
        self.close_connection = True

    def _break(self, kind: str) -> None:
        self.close_connection = True
        if kind == "stalled":
            self.owner.released.wait(5)
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
