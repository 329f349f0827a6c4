"""How a stage starts, and how it ends when the disk fills up: one line and exit code 2, whichever library met it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BASE = Path(__file__).parents[2]
STAGE = """
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from pipeline_lib.config.section import Section
from pipeline_lib.files import atomic_write
from pipeline_lib.stages.command import stage_command

NOISE = np.random.default_rng(0).integers(-325, 325, (128, 128, 128), dtype=np.int16)

class Settings(Section):
    library: str

@dataclass(frozen=True)
class Inputs:
    pass

@dataclass(frozen=True)
class Outputs:
    file: Path

def run(settings, inputs, outputs):
    if settings.library == "blosc2":
        from pipeline_lib.volumes.store import write_image
        write_image(outputs.file, NOISE, (-325.0, 325.0))
    elif settings.library == "ITK":
        import SimpleITK
        with atomic_write(outputs.file) as partial:
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(NOISE), str(partial))
    elif settings.library == "safetensors":
        from safetensors.numpy import save_file
        with atomic_write(outputs.file) as partial:
            save_file({"noise": NOISE}, partial)
    else:
        outputs.file.write_bytes(NOISE.tobytes())

stage_command(run, Settings, Inputs, Outputs)
"""


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory) -> list[str]:
    """The beginning of a command that runs with a file system of 3 MB in the folder `$0`."""
    mounted = 'mount -t tmpfs -o size=3m none "$0" && exec "$@"'
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted]
    folder = tmp_path_factory.mktemp("mount")
    if subprocess.run([*before, folder, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine does not permit mounts")
    return before


@pytest.mark.parametrize(
    ("library", "name"),
    [("blosc2", "image.b2nd"), ("ITK", "image.nii"), ("safetensors", "model.safetensors"), ("Python", "plain.bin")],
)
def test_a_full_disk_is_one_line_that_names_the_file(small_disk, tmp_path, library, name):
    (tmp_path / "stage.py").write_text(STAGE)
    disk = tmp_path / "disk"
    disk.mkdir()
    stage = [sys.executable, str(tmp_path / "stage.py"), "--settings", f'{{"library": "{library}"}}']
    done = subprocess.run(
        [*small_disk, disk, *stage, "--file", str(disk / name), "--log", str(disk / "stage.log")],
        env={"PYTHONPATH": str(BASE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning: the log cannot be written")]
    assert done.returncode == 2, done.stderr
    (error,) = errors if library != "ITK" else errors[-1:]
    assert error.startswith(f"error: {disk / name}: "), done.stderr
    assert "does not fit on the disk" in error


def test_a_stage_looks_for_garbage_but_not_in_what_it_imports(tmp_path):
    told = "gc.isenabled(), gc.get_stats()[2]['collections'], gc.get_freeze_count() > 1000"
    (tmp_path / "sitecustomize.py").write_text(f"import atexit, gc\natexit.register(lambda: print({told}))")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline_lib.stages.list_cases.run", "--help"],
        env={"PYTHONPATH": os.pathsep.join((str(tmp_path), str(BASE)))},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "True 0 True", done.stderr
