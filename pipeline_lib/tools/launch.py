"""Start the ranks of a distributed training on this machine, and wait until every one of them has ended.

    python -m pipeline_lib.tools.launch --gpus 4 pipeline_lib.stages.train.run --settings …
    srun --nodes=2 --ntasks-per-node=1 python -m pipeline_lib.tools.launch --gpus 0 pipeline_lib.stages.train.run …

One process for each GPU, or one without a GPU; across the nodes of a SLURM job step if `srun` started one launcher on
each. The processes find each other by torchrun's variables, so torchrun can start the same modules. It is not used here
because SLURM may send SIGTERM twice, and the second one makes torchrun leave while its processes are still writing
their checkpoint; SLURM then kills them. Ranks follow the order of the nodes, so that a sum of gradients is the same in
every run.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from ..child_processes import die_with_parent
from ..errors import UserError
from ..progress import say
from ..training.stopping import STOPPED

_GRACE_SECONDS = 5.0
_SECONDS_BETWEEN_LOOKS = 0.1
_FIRST_PORT, _PORTS = 10000, 20000
"""Ports below those that Linux assigns by itself, so that no other program is given the chosen one meanwhile."""
_QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Otherwise every process warns of what `training.distributed` does on purpose."""


@dataclass(frozen=True)
class Node:
    """This launcher: its `index` of `nodes`, how many ranks it starts, and the address at which rank 0 listens."""

    index: int
    nodes: int
    local_world_size: int
    address: str
    port: int

    def variables(self, local_rank: int) -> dict[str, str]:
        """torchrun's environment variables for one of this node's ranks."""
        return {
            "RANK": str(self.index * self.local_world_size + local_rank),
            "LOCAL_RANK": str(local_rank),
            "WORLD_SIZE": str(self.nodes * self.local_world_size),
            "LOCAL_WORLD_SIZE": str(self.local_world_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def this_node(gpus: int, environment: Mapping[str, str]) -> Node:
    """The only node, with `gpus` GPUs, or one of several as SLURM's `environment` says.

    UserError: `srun` started more or fewer launchers than nodes.
    """
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
    if nodes == 1:
        return Node(0, 1, max(1, gpus), "127.0.0.1", _free_port(os.getpid()))
    launchers = int(environment["SLURM_STEP_NUM_TASKS"])
    if launchers != nodes:
        wrong = f"started {launchers} launchers on {nodes} nodes"
        raise UserError("srun", wrong, "call it with --ntasks-per-node=1; each launcher starts a process per GPU")
    return Node(
        index=int(environment["SLURM_NODEID"]),
        nodes=nodes,
        # Snakemake's `gpu` counts the whole job's GPUs; SLURM knows how many of them are here.
        local_world_size=int(environment.get("SLURM_GPUS_ON_NODE", "1")),
        # srun runs in the job's script, which is on the first node, which all nodes can reach.
        address=environment["SLURM_LAUNCH_NODE_IPADDR"],
        port=_port(int(environment["SLURM_JOB_ID"])),
    )


def launch(node: Node, command: Sequence[str]) -> int:
    """Run `command` once for each rank of this node; the exit code of the first that failed, 0 if none did.

    SIGTERM and SIGINT are passed on as SIGTERM, and a process that stops on request may take as long as it needs. If
    one fails, the others are ended, because they might wait for it forever.
    """
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.terminate()

    # Held back until every process is known, so that none is missed.
    signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for number in signals:
        signal.signal(number, pass_on)
    for local_rank in range(node.local_world_size):
        environment = {**_QUIET, **os.environ, **node.variables(local_rank)}
        processes.append(subprocess.Popen(command, env=environment, preexec_fn=_prepare))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    return _outcome(processes)


def _prepare() -> None:
    """In a new process: accept signals again, and die with the launcher, as nothing else would stop it then."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    die_with_parent()


def _outcome(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    running = list(processes)
    outcome, kill_at = 0, float("inf")
    while running:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        for process in [process for process in running if process.poll() is not None]:
            running.remove(process)
            code = process.returncode
            outcome = outcome or (code if code >= 0 else 128 - code)
            if code not in (0, STOPPED) and kill_at == float("inf"):
                kill_at = time.monotonic() + _GRACE_SECONDS
        if time.monotonic() >= kill_at:
            for process in running:
                process.kill()
    return outcome


def _port(number: int) -> int:
    """A port that every launcher of a job derives from the job's number."""
    return _FIRST_PORT + number % _PORTS


def _free_port(first: int) -> int:
    """The first port, from that of `first` on, on which nothing listens on this machine."""
    for number in range(first, first + _PORTS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _port(number)))
            except OSError:
                continue
        return _port(number)
    raise UserError("127.0.0.1", "has no free port", "end programs that listen on many ports")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gpus", type=int, required=True, help="GPUs that the job has on this machine, 0 for none")
    parser.add_argument("module", help="module that every process runs")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the module's own command line")
    given = parser.parse_args(arguments)
    command = [sys.executable, "-m", given.module, *given.arguments]
    try:
        node = this_node(given.gpus, os.environ)
    except UserError as error:
        say(f"error: {error}")
        return 2
    if node.nodes * node.local_world_size == 1:
        os.execv(command[0], command)
    return launch(node, command)


if __name__ == "__main__":
    sys.exit(main())
