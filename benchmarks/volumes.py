"""Time, memory and round trip of resampling one CT with 15 labels, against what a user would otherwise run.

    python benchmarks/volumes.py --threads 2 [--contenders lacuna monai simpleitk nnunet nnunet-torch]

The case is a phantom, cut or padded to 256×256×157 voxels, said to be of 1.57×1.57×4.1 mm (another `--spacing` tells
more about the round trip) and brought to 0.8×0.8×1.5 mm: 108 million voxels. Each contender runs in a process of its
own; memory is that process's peak, imports and the raw case included. nnU-Net is left out unless `nnunetv2` and
`scikit-image` can be imported (Lacuna does not depend on them).

- lacuna: cubic anti-aliased image, each ROI's mask cubic at one half, as stage `resample` does; one thread
- monai: Spacing, bilinear image and nearest labels
- simpleitk: Resample, linear image and nearest labels
- nnunet: its default resampling, order 3 for the image and order 1 for labels
- nnunet-torch: its torch variant, linear for both

Lacuna gives each case one thread, as it runs cases side by side; the others give all threads to one case. Cases per
hour are what `--threads` cores would do, each all the time: from processor seconds, which other work on the machine
hardly changes. Every contender's labels are brought back to the original grid in the same way (linear, one half)
and compared with the originals: mean Dice over organs and over thin or small structures.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline_lib.geometry import Geometry

SIZE = (256, 256, 157)
SPACING = (0.8, 0.8, 1.5)
WINDOW = (-325.0, 325.0)
ORGANS = (
    *("liver", "spleen", "kidney_right", "kidney_left", "stomach", "pancreas", "colon", "gallbladder"),
    *("lung_lower_lobe_left", "lung_lower_lobe_right"),
)
THIN = ("hepatic_vessel", "liver_tumor", "inferior_vena_cava", "aorta", "portal_vein_and_splenic_vein")
LABELS = (*ORGANS, *THIN)

Contender = Callable[[Geometry, np.ndarray, np.ndarray, int], tuple[list[np.ndarray] | np.ndarray, Geometry]]


def make_phantom(path: Path) -> None:
    """Write HU (int16) and label map (uint8, 1 … 15), D H W, of one phantom on the original grid."""
    from pipeline_lib.config.datasets import PhantomSource
    from pipeline_lib.config.phantom import Phantom
    from pipeline_lib.datasets.phantom.case import make_case

    source = PhantomSource(cases=1, region="abdomen", spacing_mm=(1.6, 1.6, 1.6), tumour="liver_tumor")
    case = make_case(source, Phantom(), (0, "benchmark", "case"), frozenset(("liver", "spleen", "pancreas")))
    label_map = np.zeros(case.hu.shape, np.uint8)
    for value, name in enumerate(LABELS, 1):
        label_map[case.roi_mask(name)] = value
    np.savez(path, hu=_fitted(case.hu, -1024), label_map=_fitted(label_map, 0))


def _fitted(array: np.ndarray, outside: int) -> np.ndarray:
    """Cut or padded about its middle to the original grid's shape."""
    low = [(have - want) // 2 for have, want in zip(array.shape, SIZE[::-1], strict=True)]
    padding = [
        (max(-start, 0), max(want - have + start, 0))
        for start, want, have in zip(low, SIZE[::-1], array.shape, strict=True)
    ]
    padded = np.pad(array, padding, constant_values=outside)
    return padded[
        tuple(slice(max(start, 0), max(start, 0) + want) for start, want in zip(low, SIZE[::-1], strict=True))
    ]


def lacuna(original: Geometry, hu: np.ndarray, label_map: np.ndarray, threads: int) -> tuple[np.ndarray, Geometry]:
    from pipeline_lib.volumes.resampling import image_volume, mask_volume

    grid = original.at_spacing(SPACING)
    image_volume(original.image(hu), grid, WINDOW)
    planes = np.zeros((2, *grid.shape), np.uint8)
    for roi in range(len(LABELS)):
        box, mask = mask_volume(label_map == roi + 1, original, grid)
        planes[(roi // 8, *box)] |= mask.astype(np.uint8) << (roi % 8)
    return planes, grid


def simpleitk(original: Geometry, hu: np.ndarray, label_map: np.ndarray, threads: int) -> tuple[np.ndarray, Geometry]:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    grid = original.at_spacing(SPACING)

    def resampled(array: np.ndarray, interpolator: int) -> np.ndarray:
        image = original.image(array)
        place = (grid.origin_mm, grid.spacing_mm, grid.direction)
        return sitk.GetArrayFromImage(sitk.Resample(image, grid.size, sitk.Transform(), interpolator, *place))

    resampled(hu, sitk.sitkLinear)
    return resampled(label_map, sitk.sitkNearestNeighbor), grid


def monai(original: Geometry, hu: np.ndarray, label_map: np.ndarray, threads: int) -> tuple[np.ndarray, Geometry]:
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    torch.set_num_threads(threads)
    affine = torch.diag(torch.tensor([*original.spacing_mm, 1.0], dtype=torch.float64))

    def resampled(array: np.ndarray, mode: str) -> MetaTensor:
        image = MetaTensor(torch.from_numpy(array.T[None].astype(np.float32)), affine=affine)
        return Spacing(pixdim=SPACING, mode=mode)(image)

    resampled(hu, "bilinear")
    labels = resampled(label_map, "nearest")
    origin = tuple(float(value) for value in labels.affine[:3, 3])
    grid = Geometry(size=tuple(labels.shape[1:]), spacing_mm=SPACING, origin_mm=origin)
    return labels.numpy()[0].T, grid


def nnunet(original: Geometry, hu: np.ndarray, label_map: np.ndarray, threads: int) -> tuple[np.ndarray, Geometry]:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    shape, places, grid = _nnunet_grid(original)
    resample_data_or_seg_to_shape(hu[None].astype(np.float32), shape, *places, is_seg=False, order=3, order_z=0)
    labels = label_map[None].astype(np.int8)
    return resample_data_or_seg_to_shape(labels, shape, *places, is_seg=True, order=1, order_z=0)[0], grid


def nnunet_torch(
    original: Geometry, hu: np.ndarray, label_map: np.ndarray, threads: int
) -> tuple[np.ndarray, Geometry]:
    from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet

    shape, places, grid = _nnunet_grid(original)
    options = {"num_threads": threads, "force_separate_z": False}
    resample_torch_fornnunet(hu[None].astype(np.float32), shape, *places, is_seg=False, **options)
    labels = label_map[None].astype(np.int8)
    return np.asarray(resample_torch_fornnunet(labels, shape, *places, is_seg=True, **options))[0], grid


def _nnunet_grid(original: Geometry) -> tuple[tuple[int, ...], tuple[tuple[float, ...], tuple[float, ...]], Geometry]:
    """New shape, old and new spacing (z, y, x), and the grid: nnU-Net stretches the same box over the new shape."""
    grid = original.at_spacing(SPACING)
    spacing = tuple(
        old * have / new for old, have, new in zip(original.spacing_mm, original.size, grid.size, strict=True)
    )
    origin = tuple((new - old) / 2 for new, old in zip(spacing, original.spacing_mm, strict=True))
    stretched = Geometry(size=grid.size, spacing_mm=spacing, origin_mm=origin)
    return grid.shape, (original.spacing_mm[::-1], SPACING[::-1]), stretched


CONTENDERS: dict[str, Contender] = {
    "lacuna": lacuna,
    "simpleitk": simpleitk,
    "monai": monai,
    "nnunet-torch": nnunet_torch,
    "nnunet": nnunet,
}


def measure(name: str, folder: Path, spacing: tuple[float, float, float], threads: int, repeats: int) -> None:
    """Run one contender in this process and write what it took to NAME.json."""
    raw = np.load(folder / "case.npz")
    hu, label_map = raw["hu"], raw["label_map"]
    original = Geometry(size=SIZE, spacing_mm=spacing, origin_mm=(0, 0, 0))
    walls, cpus = [], []
    try:
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            labels, grid = CONTENDERS[name](original, hu, label_map, threads)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
    except ImportError as error:
        (folder / f"{name}.json").write_text(json.dumps({"missing": str(error)}))
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {
        "wall_s": min(walls),
        "cpu_s": min(cpus),
        "peak_gb": peak / 1e9,
        "dice": _round_trip(original, labels, grid, label_map),
    }
    (folder / f"{name}.json").write_text(json.dumps(result))


def _round_trip(original: Geometry, labels: np.ndarray, grid: Geometry, label_map: np.ndarray) -> dict[str, float]:
    """Dice of each label after the way back to the original grid."""
    from pipeline_lib.label_bits import plane_mask
    from pipeline_lib.measurement.cases import record_of
    from pipeline_lib.volumes.resampling import masks_on_original_grid

    record = record_of(grid, original, LABELS, LABELS, WINDOW)
    dice = {}
    for roi, name in enumerate(LABELS):
        there = plane_mask(labels, roi) if labels.ndim == 4 else labels == roi + 1
        back, truth = masks_on_original_grid([there], record) > 0, label_map == roi + 1
        if truth.any():
            dice[name] = float(2 * (back & truth).sum() / (back.sum() + truth.sum()))
    return dice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="cores of the machine that are used")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each contender; the fastest counts")
    parser.add_argument("--spacing", type=float, nargs=3, default=(1.57, 1.57, 4.1), help="x y z of the case, in mm")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _in_own_process(make_phantom, folder / "case.npz")
        print("contender | wall s | CPU s | cases/h | peak GB | Dice organs | Dice thin")
        for name in options.contenders:
            threads = 1 if name == "lacuna" else options.threads
            os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
            _in_own_process(measure, name, folder, tuple(options.spacing), threads, options.repeats)
            print(_line(name, json.loads((folder / f"{name}.json").read_text()), options.threads), flush=True)


def _in_own_process(function: Callable[..., None], *arguments: object) -> None:
    """The parent must stay small: a child's peak memory starts at its parent's."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} failed")


def _line(name: str, result: dict, threads: int) -> str:
    if "missing" in result:
        return f"{name} | left out: {result['missing']}"
    organs, thin = (np.mean([result["dice"][roi] for roi in rois if roi in result["dice"]]) for rois in (ORGANS, THIN))
    rate = threads * 3600 / result["cpu_s"]
    return (
        f"{name} | {result['wall_s']:.2f} | {result['cpu_s']:.2f} | {rate:.0f} | {result['peak_gb']:.2f} | "
        f"{organs:.4f} | {thin:.4f}"
    )


if __name__ == "__main__":
    main()
