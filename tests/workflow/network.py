"""Cuts the network off from a command and all its children, and notes whoever asks for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .job_server import JobServer

# Python imports this module at its start, in every child too. Loopback does not count: processes of a training use it.
_REFUSE = """
import os, sys

def refuse(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and host not in ("localhost", "::1", os.uname().nodename) and not host.startswith("127."):
        with open(os.environ["NETWORK_ATTEMPTS"], "a") as file:
            file.write(f"{sys.argv}: {host}\\n")
        raise OSError("the test has cut the network off")

sys.addaudithook(refuse)
"""


class CutNetwork:
    """`before` and `environment` for a command without a network, and a job server there.

    `attempts` are those to use the network all the same.
    """

    def __init__(self, folder: Path) -> None:
        self._attempts = folder / "attempts.txt"
        (folder / "sitecustomize.py").write_text(_REFUSE)
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        self.environment = {"PYTHONPATH": path, "NETWORK_ATTEMPTS": str(self._attempts)}
        # Where namespaces are permitted the kernel cuts it off too, also from what is not Python.
        permitted = subprocess.run(["unshare", "--net", "--map-root-user", "true"], capture_output=True).returncode == 0
        self.before = ("unshare", "--net", "--map-root-user") if permitted else ()

    def job_server(self, folder: Path) -> JobServer:
        """A server whose jobs, and whatever sees its environment, have no network."""
        return JobServer(folder, _REFUSE, self.before, NETWORK_ATTEMPTS=str(self._attempts))

    @property
    def attempts(self) -> str:
        return self._attempts.read_text() if self._attempts.exists() else ""
