"""RTSTRUCT contours to masks: Lacuna against libraries, on shapes of known volume written as DICOM.

    python -m benchmarks.contours [LIBRARY ...]

Every library that can be imported takes part: rt-utils, dcmrtstruct2nii, platipy, dicompyler-core, DicomRTTool and
plastimatch. Lacuna depends on none of them; install them with their own dependencies into a folder of your own
(`pip install --target`) and put that on PYTHONPATH.

Shapes of 25 mm: a sphere; a torus that lies in the slices (each has a hole) and one that stands in them (each has two
parts); a spherical shell of 2 mm. Voxels of 0.9×0.9×2.5 mm, off the shapes' centres. Series: upright; prone (x and y
reversed) with pixels of 0.9×1.1 mm; oblique, turned by 20° and 10°. Holes are contours of their own, and keyholes in a
second lying torus. For each: volume against the shape's own, Dice with the voxels whose centres lie in the shape, and
how far the centre of gravity is off, in mm. Contours have a vertex at least every 0.35 mm.

Then what must be refused or read as it is meant, on the sphere of the upright series: every contour stored twice;
contours half-way between slices; contours on every second slice only; two contours that cross.
"""

from __future__ import annotations

import argparse
import logging
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import SimpleITK as sitk

from pipeline_lib.datasets.dicom.contours import StructureSet
from pipeline_lib.geometry import Geometry
from tests.support.dicom_files import Shape, contours_of, keyhole, rtstruct, save, write_series

RADIUS, TUBE, SHELL = 25.0, 9.0, 2.0
SIZE = (90, 90, 32)


def sphere(place: np.ndarray) -> np.ndarray:
    return RADIUS - np.linalg.norm(place, axis=-1)


def _torus(place: np.ndarray, axis: int) -> np.ndarray:
    along, across = place[..., axis], np.delete(place, axis, axis=-1)
    return TUBE - np.hypot(np.linalg.norm(across, axis=-1) - (RADIUS - TUBE), along)


def lying_torus(place: np.ndarray) -> np.ndarray:
    return _torus(place, 2)


def standing_torus(place: np.ndarray) -> np.ndarray:
    return _torus(place, 0)


def shell(place: np.ndarray) -> np.ndarray:
    radius = np.linalg.norm(place, axis=-1)
    return np.minimum(RADIUS - radius, radius - (RADIUS - SHELL))


_TORUS_ML = 2 * np.pi**2 * (RADIUS - TUBE) * TUBE**2 / 1000
SHAPES = {
    "sphere": (sphere, 4 / 3 * np.pi * RADIUS**3 / 1000),
    "torus, lying": (lying_torus, _TORUS_ML),
    "torus, keyholes": (lying_torus, _TORUS_ML),
    "torus, standing": (standing_torus, _TORUS_ML),
    "shell of 2 mm": (shell, 4 / 3 * np.pi * (RADIUS**3 - (RADIUS - SHELL) ** 3) / 1000),
}


_SQUARE, _OBLONG = (0.9, 0.9, 2.5), (0.9, 1.1, 2.5)
SERIES = {"upright": _SQUARE, "prone, oblong pixels": _OBLONG, "oblique": _SQUARE}


def series_grid(name: str) -> Geometry:
    """A grid about the shapes' centre, off it by a part of a voxel."""
    a, b = np.deg2rad(20), np.deg2rad(10)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turned = {"oblique": about_z @ about_x, "prone, oblong pixels": np.diag([-1.0, -1, 1])}
    axes, spacing = turned.get(name, np.eye(3)), SERIES[name]
    origin = np.array([0.23, -0.31, 0.4]) - axes @ ((np.array(SIZE) - 1) / 2 * spacing)
    return Geometry(size=SIZE, spacing_mm=spacing, origin_mm=tuple(origin), direction=tuple(axes.ravel()))


Convert = Callable[[Path, Path, str, Geometry], np.ndarray]
"""(folder of the series, RTSTRUCT, ROI, grid) → mask (D H W, slices in the order of the grid)."""


def lacuna(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    return StructureSet(structures, pydicom.dcmread(structures), grid).mask(roi)


def rt_utils(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    from rt_utils import RTStructBuilder

    opened = RTStructBuilder.create_from(dicom_series_path=str(folder), rt_struct_path=str(structures))
    mask = opened.get_roi_mask_by_name(roi).transpose(2, 0, 1)
    return _in_order(mask, [item.ImagePositionPatient for item in opened.series_data], grid)


def dcmrtstruct2nii(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    from dcmrtstruct2nii import dcmrtstruct2nii as convert

    with tempfile.TemporaryDirectory() as out:
        convert(
            str(structures), str(folder), out, structures=[roi], convert_original_dicom=False, mask_foreground_value=1
        )
        (file,) = Path(out).glob("mask_*.nii.gz")
        return _on_grid(sitk.ReadImage(str(file)), grid)


def platipy(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    from platipy.dicom.io.rtstruct_to_nifti import read_dicom_image, transform_point_set_from_dicom_struct

    masks, names = transform_point_set_from_dicom_struct(read_dicom_image(folder), pydicom.dcmread(structures))
    return _on_grid(masks[names.index("_".join(roi.split()))], grid)


def dicompyler(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    """It has no masks; its dose histograms fill contours with `get_contour_mask` and take them by turns as holes."""
    from dicompylercore.dicomparser import DicomParser
    from dicompylercore.dvhcalc import get_contour_mask

    parser = DicomParser(str(structures))
    number = next(n for n, found in parser.GetStructures().items() if found["name"] == roi)
    x, y, z = (
        np.array(grid.origin_mm)[axis] + grid.axes[axis, axis] * grid.spacing_mm[axis] * np.arange(grid.size[axis])
        for axis in range(3)
    )
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    mask = np.zeros(grid.shape, bool)
    for height, contours in parser.GetStructureCoordinates(number).items():
        slice_number = int(np.abs(z - float(height)).argmin())
        for contour in contours:
            corners = [corner[:2] for corner in contour["data"]]
            mask[slice_number] ^= get_contour_mask({"lut": (x, y), "x_lut_index": 0}, number, points, corners)
    return mask


def dicomrttool(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    from DicomRTTool.ReaderWriter import DicomReaderWriter

    reader = DicomReaderWriter(Contour_Names=[roi.lower()], arg_max=True, verbose=False)
    with tempfile.TemporaryDirectory() as both:  # it reads all structures that it finds
        shutil.copytree(folder, Path(both) / "ct")
        shutil.copy(structures, both)
        reader.walk_through_folders(both, thread_count=1)
        reader.get_images_and_mask()
    mask = sitk.GetImageFromArray(np.asarray(reader.mask, np.uint8))
    mask.CopyInformation(reader.dicom_handle)
    return _on_grid(mask, grid)


def plastimatch(folder: Path, structures: Path, roi: str, grid: Geometry, *options: str) -> np.ndarray:
    import subprocess

    program = metadata.distribution("plastimatch").locate_file("plastimatch/bin/plastimatch")
    with tempfile.TemporaryDirectory() as out:
        arguments = [
            "--input",
            structures,
            "--referenced-ct",
            folder,
            "--output-prefix",
            out,
            "--prefix-format",
            "nii.gz",
        ]
        subprocess.run([program, "convert", *arguments, *options], check=True, capture_output=True, timeout=60)
        (file,) = Path(out).glob("*.nii.gz")
        return _on_grid(sitk.ReadImage(str(file)), grid)


def plastimatch_xor(folder: Path, structures: Path, roi: str, grid: Geometry) -> np.ndarray:
    return plastimatch(folder, structures, roi, grid, "--xor-contours")


LIBRARIES: dict[str, tuple[str | None, Convert]] = {
    "Lacuna": (None, lacuna),
    "rt-utils": ("rt-utils", rt_utils),
    "dcmrtstruct2nii": ("dcmrtstruct2nii", dcmrtstruct2nii),
    "platipy": ("platipy", platipy),
    "dicompyler-core": ("dicompyler-core", dicompyler),
    "DicomRTTool": ("dicomrttool", dicomrttool),
    "plastimatch": ("plastimatch", plastimatch),
    "plastimatch --xor-contours": ("plastimatch", plastimatch_xor),
}


def _in_order(mask: np.ndarray, positions: list, grid: Geometry) -> np.ndarray:
    numbers = np.rint(grid.continuous_index(np.array(positions, float))[:, 2]).astype(int)
    ordered = np.zeros(grid.shape, bool)
    ordered[numbers] = mask
    return ordered


def _on_grid(image: sitk.Image, grid: Geometry) -> np.ndarray:
    """The mask brought to the grid by position, so that a library's own order of slices does not matter."""
    target = sitk.Image(grid.size, sitk.sitkUInt8)
    target.SetSpacing(grid.spacing_mm)
    target.SetOrigin(grid.origin_mm)
    target.SetDirection(grid.direction)
    moved = sitk.Resample(sitk.Cast(image > 0, sitk.sitkUInt8), target, sitk.Transform(), sitk.sitkNearestNeighbor)
    return sitk.GetArrayFromImage(moved) > 0


def _places(grid: Geometry) -> np.ndarray:
    """D H W 3: positions of voxel centres, mm."""
    index = np.stack(np.meshgrid(*(np.arange(side) for side in grid.size), indexing="ij"), axis=-1)
    return (index.transpose(2, 1, 0, 3) * grid.spacing_mm) @ grid.axes.T + grid.origin_mm


def _judged(mask: np.ndarray, truth: np.ndarray, places: np.ndarray, voxel_ml: float, volume_ml: float) -> str:
    if not mask.any():
        return "empty"
    volume = mask.sum() * voxel_ml
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    off = np.linalg.norm(places[mask].mean(axis=0) - places[truth].mean(axis=0))
    return f"{100 * (volume / volume_ml - 1):+.1f} %, {dice:.4f}, {off:.2f} mm"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=f"some of: {', '.join(LIBRARIES)}")
    chosen = parser.parse_args().libraries or list(LIBRARIES)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    _restore_old_names()
    packages = {name: package for name, (package, _) in LIBRARIES.items() if name in chosen}
    names = [name for name, package in packages.items() if package is None or _version(package)]
    versions = [
        f"{package} {_version(package)}" for package in dict.fromkeys(packages[name] for name in names) if package
    ]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    with tempfile.TemporaryDirectory() as folder:
        for series_name in SERIES:
            grid = series_grid(series_name)
            drawn = {name: (contours_of(shape, grid), shape, volume_ml) for name, (shape, volume_ml) in SHAPES.items()}
            keyholes = "torus, keyholes"
            drawn[keyholes] = (_with_keyholes(drawn[keyholes][0], grid), *drawn[keyholes][1:])
            _print_table(Path(folder) / series_name, series_name, names, drawn, grid)
        grid = series_grid("upright")
        _print_table(Path(folder) / "faults", "faults, upright", names, _faults(grid), grid)


Drawn = dict[str, tuple[list[np.ndarray], Shape, float]]
"""Column → contours, what they should give, its volume in ml."""


def _print_table(folder: Path, title: str, names: list[str], drawn: Drawn, grid: Geometry) -> None:
    places = _places(grid)
    series = write_series(folder / "ct", grid)
    print(f"\n{title}: volume, Dice, centre off\n\n| | {' | '.join(drawn)} | s |")
    print("|---" * (len(drawn) + 2) + "|")
    files = {
        column: save(rtstruct(series, {"shape": contours}), folder / column / "rs.dcm")
        for column, (contours, _, _) in drawn.items()
    }
    for library in names:
        started, cells = time.perf_counter(), []
        for column, (_, shape, volume_ml) in drawn.items():
            try:
                with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                    mask = LIBRARIES[library][1](folder / "ct", files[column], "shape", grid)
                voxel_ml = np.prod(grid.spacing_mm) / 1000
                cells.append(_judged(mask, shape(places) > 0, places, voxel_ml, volume_ml))
            except Exception as error:
                print(f"{library}, {column}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
                cells.append("refused")
        print(f"| {library} | {' | '.join(cells)} | {time.perf_counter() - started:.1f} |", flush=True)


def _faults(grid: Geometry) -> Drawn:
    """Contours of the sphere that are ambiguous or unsound."""
    shape, volume_ml = SHAPES["sphere"]
    contours = contours_of(shape, grid)
    half_a_slice = grid.axes[:, 2] * grid.spacing_mm[2] / 2
    aside = grid.axes[:, 0] * 20.0
    return {
        "each contour twice": ([*contours, *contours], shape, volume_ml),
        "between slices": ([contour + half_a_slice for contour in contours], shape, volume_ml),
        "every second slice": (contours[::2], shape, volume_ml),
        "crossing contours": ([*contours, *(contour + aside for contour in contours)], shape, volume_ml),
    }


def _restore_old_names() -> None:
    """Names that pydicom 3 dropped and that some of the libraries still use."""
    pydicom.read_file = pydicom.dcmread
    sys.modules["pydicom.dicomio"] = SimpleNamespace(read_file=pydicom.dcmread)


def _with_keyholes(contours: list[np.ndarray], grid: Geometry) -> list[np.ndarray]:
    """Each slice's two contours joined to one."""
    slices: dict[int, list[np.ndarray]] = {}
    for contour in contours:
        slices.setdefault(int(np.rint(grid.continuous_index(contour)[0, 2])), []).append(contour)
    joined = []
    for found in slices.values():
        outer, *inner = sorted(found, key=lambda contour: -np.ptp(contour, axis=0).max())
        joined.append(keyhole(outer, inner[0]) if inner else outer)
    return joined


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
