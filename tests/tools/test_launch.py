"""The launcher: which processes it starts, what they are told, and that it stays until they have ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline_lib.errors import UserError
from pipeline_lib.tools.launch import this_node

STEP_OF_TWO_NODES = {
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_NODEID": "1",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7",
    "SLURM_JOB_ID": "123456",
}


def start(folder: Path, program: str, gpus: int, **environment: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text("import os, signal, sys, time\nfrom pathlib import Path\n" + program)
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline_lib.tools.launch", "--gpus", str(gpus), "program", "--note", "a b"],
        env={**_outside_slurm(), "PYTHONPATH": str(folder), **environment},
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def _outside_slurm() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}


def wait_for(folder: Path, *names: str) -> None:
    end = time.monotonic() + 30
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < end, f"{names} did not appear"
        time.sleep(0.05)


TELL = """
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
told = [os.environ.get(name, "-") for name in names]
Path("rank" + told[0]).write_text(" ".join([*told, *sys.argv[1:]]))
"""


def test_one_process_needs_no_group(tmp_path):
    launcher = start(tmp_path, TELL, gpus=0)
    assert launcher.wait(30) == 0
    assert (tmp_path / "rank-").read_text() == "- - - - - --note a b"


def test_a_process_for_each_gpu_with_torchruns_variables(tmp_path):
    launcher = start(tmp_path, TELL, gpus=2)
    assert launcher.wait(30) == 0
    assert (tmp_path / "rank0").read_text() == "0 0 2 2 127.0.0.1 --note a b"
    assert (tmp_path / "rank1").read_text() == "1 1 2 2 127.0.0.1 --note a b"


def test_several_nodes_count_their_ranks_in_the_order_of_the_nodes():
    second = this_node(0, STEP_OF_TWO_NODES)
    first = this_node(0, {**STEP_OF_TWO_NODES, "SLURM_NODEID": "0"})
    assert [first.variables(0)["RANK"], second.variables(0)["RANK"], second.variables(3)["RANK"]] == ["0", "4", "7"]
    assert second.variables(3) | {"RANK": "3"} == first.variables(3)
    assert second.variables(3)["LOCAL_RANK"] == "3"
    assert second.variables(0)["WORLD_SIZE"] == "8"
    assert second.variables(0)["MASTER_ADDR"] == "10.0.0.7"


def test_more_launchers_than_nodes_are_refused():
    with pytest.raises(UserError, match="--ntasks-per-node=1"):
        this_node(0, {**STEP_OF_TWO_NODES, "SLURM_STEP_NUM_TASKS": "8"})


def test_the_failing_process_decides_and_the_others_are_ended(tmp_path):
    program = """
if os.environ["RANK"] == "1":
    print("the real reason")
    sys.exit(2)
time.sleep(120)
"""
    launcher = start(tmp_path, program, gpus=2)
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 2
    assert "the real reason" in output


STOP_SLOWLY = """
def note(number, frame):
    global asked
    asked = True
asked = False
signal.signal(signal.SIGTERM, note)
rank = os.environ["RANK"]
Path("ready" + rank).touch()
while not asked:
    time.sleep(0.05)
if rank == "0":
    time.sleep(3)
    Path("checkpoint").touch()
sys.exit(143)
"""


def test_two_requests_to_stop_leave_time_for_the_checkpoint(tmp_path):
    launcher = start(tmp_path, STOP_SLOWLY, gpus=2)
    wait_for(tmp_path, "ready0", "ready1")
    launcher.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(30) == 143
    assert (tmp_path / "checkpoint").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_processes_do_not_outlive_a_killed_launcher(tmp_path):
    program = 'Path("process" + os.environ["RANK"]).write_text(str(os.getpid()))\ntime.sleep(120)\n'
    launcher = start(tmp_path, program, gpus=2)
    wait_for(tmp_path, "process0", "process1")
    time.sleep(0.2)
    processes = [int((tmp_path / f"process{rank}").read_text()) for rank in range(2)]
    launcher.kill()
    launcher.wait(30)
    end = time.monotonic() + 10
    while any(_runs(process) for process in processes):
        assert time.monotonic() < end, "a process outlived its launcher"
        time.sleep(0.05)


def _runs(process: int) -> bool:
    """Whether the process exists and is more than a zombie that nobody has collected yet."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
