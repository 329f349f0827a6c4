"""Crops per second and bytes of the volume store, against nnU-Net v2's own store and a raw memory map.

    python benchmarks/store.py [--size 512 512 160] [--crops 60] [--rounds 5] [--image CT]

The volume is a phantom of 1.6×1.6×4 mm, resampled to 0.8×0.8×1.5 mm and cut to `--size`; with `--image` the phantom's
labels lie over that CT, resampled alike, whose noise is a scanner's. Sixty random crops of
160×160×96 voxels, image and labels both, are read by one thread from files in the page cache, by turns from each store;
the median of the rounds counts. nnU-Net's store is its own code where `nnunetv2` can be imported, else what that code
writes: float32 and int8 with LZ4HC at level 5, the better of shuffle and no filter, and its blocks and chunks.

Two label sets: 15 structures, and one organ of eleven ROIs, as a partially labelled data set has. Labels come as each
store keeps them, one integer a voxel: label codes here, a label map there.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import blosc2
import numpy as np
import SimpleITK as sitk

from pipeline_lib.config.datasets import PhantomSource
from pipeline_lib.config.phantom import Phantom
from pipeline_lib.datasets.images import read_image
from pipeline_lib.datasets.phantom.case import PhantomCase, make_case
from pipeline_lib.geometry import Geometry, to_canonical
from pipeline_lib.label_bits import add_mask, plane_and_bit, plane_count
from pipeline_lib.measurement.cases import record_of
from pipeline_lib.volumes.interpolation import cubic, interpolated, interpolation_matrices
from pipeline_lib.volumes.names import IMAGE, LABELS
from pipeline_lib.volumes.resampling import mask_volume
from pipeline_lib.volumes.store import open_volume, write_volume

PATCH = (96, 160, 160)
SPACING = (0.8, 0.8, 1.5)
WINDOW = (-325.0, 325.0)
STRUCTURES = (
    *("liver", "spleen", "kidney_right", "kidney_left", "stomach", "pancreas", "colon", "gallbladder", "aorta"),
    *("inferior_vena_cava", "small_bowel", "iliopsoas_left", "iliopsoas_right", "hepatic_vessel", "duodenum"),
)

Box = tuple[slice, slice, slice]
Reader = Callable[[Box], object]


def resampled_phantom(size: tuple[int, int, int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """HU before rounding (float32) and a mask for each structure, D H W, at the paper's spacing."""
    source = PhantomSource(cases=1, region="abdomen", spacing_mm=(1.6, 1.6, 4.0))
    case = make_case(source, Phantom(), (0, "benchmark", "case"), frozenset(("liver", "spleen", "pancreas")))
    x, y, z = case.grid.spacing
    original = Geometry(size=case.hu.shape[::-1], spacing_mm=(x, y, z), origin_mm=(0, 0, 0))
    covering = tuple(voxels * side / have for voxels, side, have in zip(size, SPACING, original.size, strict=True))
    original = original.model_copy(update={"spacing_mm": covering})
    grid = original.at_spacing(SPACING)
    return _resampled(case.hu, original, grid), {name: _mask(case, name, original, grid) for name in STRUCTURES}


def resampled_ct(path: Path) -> np.ndarray:
    """HU before rounding (float32 D H W) of a CT at the paper's spacing; its axes lie along the patient's."""
    image = read_image(path)
    original = Geometry.from_image(image)
    upright = original.canonical()
    array = to_canonical(sitk.GetArrayFromImage(image), original).astype(np.float32)
    return _resampled(array, upright, upright.at_spacing(SPACING))


def _resampled(hu: np.ndarray, original: Geometry, grid: Geometry) -> np.ndarray:
    matrices = interpolation_matrices(original, grid, cubic, antialias=True)
    return interpolated(hu, matrices, np.float32, lambda block: np.clip(block, *WINDOW, out=block))


def _mask(case: PhantomCase, name: str, original: Geometry, grid: Geometry) -> np.ndarray:
    volume = np.zeros(grid.shape, bool)
    box, mask = mask_volume(case.roi_mask(name), original, grid)
    volume[box] = mask
    return volume


def lacuna(folder: Path, hu: np.ndarray, masks: list[np.ndarray], bits: int) -> tuple[Reader, int]:
    """`masks` are the first of `bits` ROIs; the others are not labelled."""
    names = tuple(f"roi_{k}" for k in range(bits))
    planes = np.zeros((plane_count(bits), *hu.shape), np.uint8)
    for k, mask in enumerate(masks):
        plane, bit = plane_and_bit(k)
        add_mask(planes[plane], bit, mask)
    grid = Geometry(size=hu.shape[::-1], spacing_mm=SPACING, origin_mm=(0, 0, 0))
    record = record_of(grid, grid, names, names[: len(masks)], WINDOW)
    write_volume(folder, np.rint(hu).astype(np.int16), planes, record)
    volume = open_volume(folder)

    def read(box: Box) -> object:
        start, shape = [side.start for side in box], [side.stop - side.start for side in box]
        return volume.read_image(start, shape), volume.read_codes(start, shape)

    return read, _bytes(folder / IMAGE, folder / LABELS)


def nnunet(folder: Path, hu: np.ndarray, masks: list[np.ndarray], bits: int) -> tuple[Reader, int]:
    data = ((hu - hu.mean()) / hu.std()).astype(np.float32)[None]
    seg = _label_map(masks).astype(np.int8)[None]
    save = _nnunet_save()
    save(data, seg, folder)
    options = {"mode": "r", "dparams": {"nthreads": 1}, "mmap_mode": "r"}
    stored, labels = (blosc2.open(str(folder / name), **options) for name in ("case.b2nd", "case_seg.b2nd"))
    size = _bytes(folder / "case.b2nd", folder / "case_seg.b2nd")
    return lambda box: (stored[(slice(None), *box)], labels[(slice(None), *box)]), size


def _nnunet_save() -> Callable[[np.ndarray, np.ndarray, Path], None]:
    try:
        from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
    except ImportError:
        print("nnunetv2 is not there: its store is rebuilt from its parameters")
        return _like_nnunet

    def save(data: np.ndarray, seg: np.ndarray, folder: Path) -> None:
        blocks, chunks = comp_blosc2_params(data.shape, PATCH, data.itemsize)
        blocks_seg, chunks_seg = comp_blosc2_params(seg.shape, PATCH, seg.itemsize)
        name = str(folder / "case")
        nnUNetDatasetBlosc2.save_case(data, seg, {}, name, chunks, blocks, chunks_seg, blocks_seg)

    return save


def _like_nnunet(data: np.ndarray, seg: np.ndarray, folder: Path) -> None:
    for array, name, chunk, block in (
        (data, "case.b2nd", (1, 96, 128, 128), (1, 32, 32, 32)),
        (seg, "case_seg.b2nd", (1, 128, 240, 192), (1, 32, 64, 64)),
    ):
        chunks = tuple(min(side, length) for side, length in zip(chunk, array.shape, strict=True))
        trials = []
        for kind in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE):
            cparams = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "filters": [kind]}
            path = folder / f"{kind.name}.{name}"
            blosc2.asarray(array, urlpath=str(path), mode="w", chunks=chunks, blocks=block, cparams=cparams)
            trials.append(path)
        min(trials, key=_bytes).rename(folder / name)


def memory_map(folder: Path, hu: np.ndarray, masks: list[np.ndarray], bits: int) -> tuple[Reader, int]:
    files = folder / "image.npy", folder / "labels.npy"
    np.save(files[0], np.rint(hu).astype(np.int16))
    np.save(files[1], _label_map(masks))
    image, labels = (np.load(path, mmap_mode="r") for path in files)
    return lambda box: (image[box].copy(), labels[box].copy()), _bytes(*files)


STORES = {"lacuna": lacuna, "nnunet": nnunet, "memory map": memory_map}


def _label_map(masks: list[np.ndarray]) -> np.ndarray:
    labels = np.zeros(masks[0].shape, np.uint8)
    for value, mask in enumerate(masks, 1):
        labels[mask] = value
    return labels


def _bytes(*files: Path) -> int:
    return sum(path.stat().st_size for path in files)


def crops_per_second(read: Reader, boxes: list[Box]) -> float:
    started = time.process_time()
    for box in boxes:
        read(box)
    return len(boxes) / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--size", type=int, nargs=3, default=(512, 512, 160), help="x y z of the phantom, in voxels")
    volume.add_argument("--image", type=Path, help="a CT in the phantom's place")
    parser.add_argument("--crops", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    blosc2.set_nthreads(1)
    ct = None if options.image is None else resampled_ct(options.image)
    hu, masks = resampled_phantom(tuple(options.size) if ct is None else ct.shape[::-1])
    hu = hu if ct is None else ct
    generator = np.random.default_rng(0)
    starts = [
        [int(generator.integers(side - crop + 1)) for side, crop in zip(hu.shape, PATCH, strict=True)]
        for _ in range(options.crops)
    ]
    boxes = [tuple(slice(low, low + crop) for low, crop in zip(start, PATCH, strict=True)) for start in starts]
    print(f"volume {hu.shape}, {hu.size / 1e6:.0f} million voxels")
    for title, chosen, bits in (("15 structures", list(masks.values()), 15), ("one organ of 11", [masks["liver"]], 11)):
        with tempfile.TemporaryDirectory() as temporary:
            stores = {}
            for name, make in STORES.items():
                folder = Path(temporary) / name
                folder.mkdir()
                stores[name] = make(folder, hu, chosen, bits)
            rates: dict[str, list[float]] = {name: [] for name in stores}
            for _ in range(options.rounds):
                for name, (read, _) in stores.items():
                    rates[name].append(crops_per_second(read, boxes))
            peer = statistics.median(rates["nnunet"])
            print(f"{title} | crops/s | of nnunet's | MB | of nnunet's")
            for name, (_, size) in stores.items():
                rate = statistics.median(rates[name])
                print(f"{name} | {rate:.0f} | {rate / peer:.2f} | {size / 1e6:.1f} | {size / stores['nnunet'][1]:.2f}")


if __name__ == "__main__":
    main()
