"""Stages of pipelines in processes forked from one that has imported torch already: most of a tiny job is the import.

The project's own code is imported by each job anew, from the job's own PYTHONPATH; only other packages are there
before. Command line, working directory, output and exit code are those of the process that Snakemake started, which
waits. So is the environment, but what libraries read of it when they are imported is the server's; so are the seed of
hashes and the state of global random generators. Signals do not reach the job: a test that kills or stops one, or that
asks whether two processes agree, starts Snakemake without this.

    python job_server.py SOCKET        what `JobServer` starts
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

_LIBRARIES = (
    # First, as in a stage: it says which packages MONAI does without.
    *("pipeline_lib.monai_parts", "torch", "torch._dynamo", "pandas", "pyarrow.parquet", "scipy.ndimage", "SimpleITK"),
    *("blosc2", "pydantic", "safetensors.torch", "matplotlib.pyplot", "jinja2", "einops"),
)
_PATIENCE_SECONDS = 240

# Python imports this module at its start. A stage is handed to the server; whatever else Python runs goes its way.
_CLIENT = """
import os, sys

if sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("pipeline_lib.stages."):
    import json, socket
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["JOB_SERVER"])
        socket.send_fds(server, [b"!"], [0, 1, 2])
        job = {"words": sys.orig_argv[2:], "path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ)}
        server.sendall(json.dumps(job).encode())
        server.shutdown(socket.SHUT_WR)
        ended = server.recv(16)
    os._exit(int(ended or b"1"))
"""


class JobServer:
    """A running server, and the environment in which Snakemake's jobs use it.

    It lies in `folder`, which goes with it; Python must find that folder before any other. `start` is Python code that
    every process runs at its start, the server too; `before` is a command that runs the server, `environment` what all
    of them see beside this process's.
    """

    def __init__(self, folder: Path, start: str = "", before: tuple[str, ...] = (), **environment: str) -> None:
        self.folder = folder
        (folder / "sitecustomize.py").write_text(_CLIENT + start)
        base = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        place = folder / "socket"
        self.environment = {"PYTHONPATH": path, "JOB_SERVER": str(place), **environment}
        self._process = subprocess.Popen(
            [*before, sys.executable, __file__, place],
            env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join((path, base))},
            start_new_session=True,
        )
        until = time.monotonic() + _PATIENCE_SECONDS
        try:
            while not place.exists():
                assert self._process.poll() is None, "the job server has ended"
                assert time.monotonic() < until, f"the job server has not started within {_PATIENCE_SECONDS} s"
                time.sleep(0.05)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the server and whatever jobs still run."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self.folder)


def _serve(place: str) -> dict:
    """Wait for jobs forever; returns in a child, with its job."""
    parent = os.getppid()
    for library in _LIBRARIES:
        __import__(library)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline_lib"]:
        del sys.modules[name]
    # Neither children nor their ends look for garbage among all that.
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        listening.listen()
        listening.settimeout(1)
        while True:
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                if os.getppid() != parent:
                    # Whoever started it was killed. Its jobs go with it.
                    shutil.rmtree(Path(place).parent, ignore_errors=True)
                    os.killpg(0, signal.SIGKILL)
                continue
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                break
            connection.close()
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    job = json.loads(connection.makefile("rb").read())
    child = os.fork()
    if child == 0:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        connection.close()
        return job
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _run(job: dict) -> int:
    """Run the job's stage in this process as Python does; its exit code."""
    module, *arguments = job["words"]
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.path[:] = job["path"]
    sys.argv = [module, *arguments]
    sys.modules["torch"].set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = _run(_serve(sys.argv[1]))
    # To take down all that was imported costs more than most jobs.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
