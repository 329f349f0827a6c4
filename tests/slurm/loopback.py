"""A real SLURM on this machine's loopback: a controller and two nodes of four processors and eight pretend GPUs each.

It has its own munge key, socket, ports and folder, so it disturbs no SLURM that may run here already. There are no
cgroups, so nothing keeps a job to its processors or devices; queueing, signals, limits, pre-emption and requeueing
are real.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "sinfo", "squeue", "srun", "scontrol")


@dataclass(frozen=True)
class Slurm:
    """A running SLURM and the environment in which its commands find it."""

    folder: Path
    environment: dict[str, str]

    def command(self, *arguments: str) -> str:
        """Standard output of one of SLURM's commands."""
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job that the controller remembers, as `scontrol show job` describes it."""
        blocks = self.command("scontrol", "show", "job", "--oneliner").splitlines()
        return [
            dict(field.split("=", 1) for field in block.split() if "=" in field)
            for block in blocks
            if block.startswith("JobId=")
        ]


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something to hold, a bounded time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


@contextmanager
def slurm_on_loopback() -> Iterator[Slurm]:
    """A SLURM that is ready for jobs, and gone with all its jobs when the block ends."""
    # A short path: a UNIX socket's name has 108 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="lacuna-slurm-"))
    started = Slurm(folder, _environment(folder))
    try:
        _write_configuration(folder)
        _start(started)
        yield started
    finally:
        _stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def why_not() -> str | None:
    """Why no SLURM can be started here, None where one can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no SLURM here: {', '.join(missing)} not found"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed: pip install -e '.[cluster]'"
    return None if os.geteuid() == 0 else "SLURM's daemons need root here"


def _environment(folder: Path) -> dict[str, str]:
    """This process's environment, pointing to the SLURM in `folder` and without traces of an outer one.

    Snakemake's SLURM plugin drops every SLURM variable in a job before it calls srun, the one that names the
    configuration too, so a wrapper that stands before srun in the path puts it back.
    """
    foreign = ("SLURM", "SBATCH", "SRUN", "SNAKEMAKE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    configuration = folder / "slurm.conf"
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    return kept | {"SLURM_CONF": str(configuration), "PATH": f"{srun.parent}:{kept['PATH']}"}


def _write_configuration(folder: Path) -> None:
    for name in ("state", "run", "log", *(f"spool/{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    pretend_gpus = [f"{node}-gpu{number}" for node in NODES for number in range(8)]
    for name in pretend_gpus:
        (folder / name).touch()
    (folder / "gres.conf").write_text(
        "".join(f"NodeName={node} Name=gpu File={folder}/{node}-gpu[0-7]\n" for node in NODES)
    )
    (folder / "slurm.conf").write_text(_configuration(folder))


def _configuration(folder: Path) -> str:
    host = socket.gethostname().split(".")[0]
    controller_port, *node_ports = _free_ports(1 + len(NODES))
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Boards=1 SocketsPerBoard=1"
        " CoresPerSocket=4 ThreadsPerCore=1 RealMemory=64000 Gres=gpu:8 State=UNKNOWN"
        for node, port in zip(NODES, node_ports, strict=True)
    )
    # cred_expire: else a requeued job waits two minutes. config_overrides: a node may claim more than the machine has.
    return f"""\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=60
JobRequeue=1
JobFileAppend=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=main Nodes={",".join(NODES)} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes={",".join(NODES)} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _start(slurm: Slurm) -> None:
    folder = slurm.folder
    munge = [
        "munged",
        "--force",
        f"--key-file={folder}/munge.key",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/run/munged.pid",
        f"--log-file={folder}/log/munged.log",
        f"--seed-file={folder}/munged.seed",
    ]
    for daemon in (munge, ["slurmctld", "-c"], *(["slurmd", "-N", node] for node in NODES)):
        # A daemon keeps its parent's pipes open, so its output goes to a file.
        output = folder / "log" / "start"
        with output.open("ab") as file:
            code = subprocess.run(daemon, env=slurm.environment, stdout=file, stderr=file, timeout=60).returncode
        assert code == 0, f"{' '.join(daemon)}: {output.read_text()}"

    def idle() -> bool:
        states = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--partition=main", "--format=%T"],
            env=slurm.environment,
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout.split()
        return states == ["idle"] * len(NODES)

    wait_until(idle, 60, f"both nodes idle (see {folder}/log)")


def _stop(folder: Path) -> None:
    """End the daemons, each by the process number in its own file, and then whatever else works for this SLURM."""
    names = ("slurmctld.pid", *(f"slurmd-{node}.pid" for node in NODES), "munged.pid")
    daemons = [int(file.read_text()) for name in names if (file := folder / "run" / name).exists()]
    for daemon in daemons:
        _kill(daemon, signal.SIGTERM)
    end = time.monotonic() + 10
    while time.monotonic() < end and any(Path(f"/proc/{daemon}").exists() for daemon in daemons):
        time.sleep(0.1)
    for process in (*daemons, *_processes_of(folder)):
        _kill(process, signal.SIGKILL)


def _processes_of(folder: Path) -> list[int]:
    """Jobs and their attendants: the environment of each names this configuration."""
    named = f"SLURM_CONF={folder}/slurm.conf".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if named in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _kill(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return
