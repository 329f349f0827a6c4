"""Time and memory of the stage resample for a case as large as the largest of KiTS19: about 190 million voxels.

    python benchmarks/largest_case.py [--slices 1059]

The case is a phantom's, its voxels repeated and noise added, in KiTS19's layout and axis order: 512×512 voxels of
0.94 mm and slices of 0.75 mm, brought to 0.8×0.8×1.5 mm. Memory is the peak of the stage's process, all included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ROW = 512
SPACING = (0.94, 0.94, 0.75)
LABELS = {"kidney": (1, 2), "kidney_tumor": (2,)}


def write_case(folder: Path, slices: int) -> None:
    from pipeline_lib.config.datasets import PhantomSource
    from pipeline_lib.config.phantom import Phantom
    from pipeline_lib.datasets.phantom.case import make_case

    source = PhantomSource(cases=1, region="abdomen", spacing_mm=(3, 3, 3), tumour="kidney_tumor")
    case = make_case(source, Phantom(), (0, "benchmark", "case"), frozenset(("kidney_right", "kidney_left")))
    label_map = np.where(case.roi_mask("kidney_tumor"), 2, case.roi_mask("kidney").astype(np.uint8))
    places = [np.arange(side) * have // side for side, have in zip((slices, ROW, ROW), case.hu.shape, strict=True)]
    noise = np.random.default_rng(0).normal(0, 20, (ROW, ROW))
    hu = np.stack([case.hu[z][np.ix_(*places[1:])] + np.roll(noise, z) for z in places[0]]).astype(np.int16)
    folder.mkdir(parents=True)
    for name, array in (("imaging", hu), ("segmentation", label_map.astype(np.uint8)[np.ix_(*places)])):
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))  # x is the slice
        image.SetSpacing((SPACING[2], SPACING[1], SPACING[0]))
        image.SetDirection((0, 0, -1, 0, -1, 0, -1, 0, 0))
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=1059)
    options = parser.parse_args()
    settings = {
        "dataset": "kits19",
        "layout": "kits19",
        "root": ".",
        "labels": LABELS,
        "ignored_labels": [],
        "case": "case",
        "targets": [f"roi_{k}" for k in range(9)] + list(LABELS),
        "volumes": {"spacing_mm": [0.8, 0.8, 1.5]},
    }
    with tempfile.TemporaryDirectory() as temporary:
        raw, made = Path(temporary) / "raw", Path(temporary) / "volume"
        # In a process of its own: a child's peak memory starts at its parent's.
        if os.fork() == 0:
            write_case(raw / "data" / "case", options.slices)
            os._exit(0)
        os.wait()
        started = time.perf_counter()
        command = [sys.executable, "-m", "pipeline_lib.stages.resample.run", "--settings", json.dumps(settings)]
        command += ["--manifest", raw / "manifest.json", "--image", made / "image.b2nd"]
        command += ["--labels", made / "labels.b2nd", "--record", made / "case.json"]
        pid = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).pid
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise SystemExit("the stage failed")
        shape = json.loads((made / "case.json").read_text())["shape"]
        size = sum(path.stat().st_size for path in made.iterdir())
        print(f"{'×'.join(map(str, shape))} = {np.prod(shape) / 1e6:.0f} million voxels, {size / 1e6:.0f} MB on disk")
        print(f"{time.perf_counter() - started:.1f} s, CPU {usage.ru_utime + usage.ru_stime:.1f} s", end=", ")
        print(f"peak {usage.ru_maxrss * 1024 / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
