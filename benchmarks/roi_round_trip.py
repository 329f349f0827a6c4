"""Dice of every ROI's label after the way to the volume's grid and back to its own, as the pipeline goes it.

    python benchmarks/roi_round_trip.py [--cases 1]
    python benchmarks/roi_round_trip.py --configfile config/mots.yaml --directory FOLDER [--cases 20]

Without a config: phantoms, at voxel sizes that are usual in each of the MOTS data sets. With one: the labels of the
first cases of each of its data sets, which the target `raw_data` has brought into FOLDER.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from pipeline_lib.config.datasets import Dataset, PhantomSource
from pipeline_lib.config.loading import load_config
from pipeline_lib.config.phantom import Phantom
from pipeline_lib.config.structures import structure_names
from pipeline_lib.datasets.phantom.case import ORGAN_ROIS, make_case
from pipeline_lib.datasets.readers import case_files, read_labels
from pipeline_lib.geometry import Geometry
from pipeline_lib.measurement.cases import record_of
from pipeline_lib.volumes.resampling import mask_volume, masks_on_original_grid

PAPER_SPACING = (0.8, 0.8, 1.5)
USUAL = {  # ROIs, the tumour that each case holds, region, voxel size in mm
    "Task03_Liver": (("liver", "liver_tumor"), "liver_tumor", "upper_abdomen", (0.77, 0.77, 1.0)),
    "kits19": (("kidney", "kidney_tumor"), "kidney_tumor", "abdomen", (0.78, 0.78, 3.0)),
    "Task08_HepaticVessel": (
        ("hepatic_vessel", "hepatic_vessel_tumor"),
        "hepatic_vessel_tumor",
        "upper_abdomen",
        (0.8, 0.8, 5.0),
    ),
    "Task07_Pancreas": (("pancreas", "pancreas_tumor"), "pancreas_tumor", "upper_abdomen", (0.8, 0.8, 2.5)),
    "Task10_Colon": (("colon_cancer",), "colon_cancer", "abdomen", (0.78, 0.78, 5.0)),
    "Task06_Lung": (("lung_tumor",), "lung_tumor", "chest", (0.77, 0.77, 1.25)),
    "Task09_Spleen": (("spleen",), None, "upper_abdomen", (0.79, 0.79, 5.0)),
}

Label = tuple[str, str, np.ndarray, Geometry]
"""Data set, ROI, its mask (bool D H W) and the grid that it lies on."""


def phantom_labels(cases: int) -> Iterator[Label]:
    for dataset, (rois, tumour, region, spacing) in USUAL.items():
        source = PhantomSource(cases=cases, region=region, spacing_mm=spacing, tumour=tumour)
        organs = frozenset(part for roi in rois for part in ORGAN_ROIS.get(roi, ()))
        for number in range(cases):
            case = make_case(source, Phantom(), (0, dataset, str(number)), organs)
            grid = Geometry(size=case.hu.shape[::-1], spacing_mm=case.grid.spacing, origin_mm=(0, 0, 0))
            for roi in rois:
                yield dataset, roi, case.roi_mask(roi), grid


def acquired_labels(configfile: Path, directory: Path, cases: int) -> Iterator[Label]:
    config = load_config(configfile)
    structures = structure_names(config.roi_aware.structures)
    for dataset in config.all_datasets:
        root = directory / "resources" / "raw" / dataset.name / dataset.root
        for case in dataset.used_cases[:cases]:
            for roi, mask, grid in _masks(dataset, root, case, structures):
                yield dataset.name, roi, mask, grid


def _masks(
    dataset: Dataset, root: Path, case: str, structures: tuple[str, ...]
) -> Iterator[tuple[str, np.ndarray, Geometry]]:
    targets, labelling = tuple(dataset.labels) or structures, dataset.labelling(case)
    grids: list[Geometry] = []
    files = case_files(dataset.layout, root, case, targets, labelling)
    labels = read_labels(files, targets, labelling, lambda _, grid: grids.append(grid))
    for target in labels.labelled:
        mask = labels.mask(target)
        yield target, mask, grids[-1]


def dice_after_the_round_trip(mask: np.ndarray, original: Geometry) -> float:
    grid = original.canonical().at_spacing(PAPER_SPACING)
    box, inside = mask_volume(mask, original, grid)
    volume = np.zeros(grid.shape, bool)
    volume[box] = inside
    back = masks_on_original_grid([volume], record_of(grid, original, ("roi",), ("roi",), (-325, 325))) > 0
    return float(2 * (back & mask).sum() / (back.sum() + mask.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1, help="cases of each data set")
    parser.add_argument("--configfile", type=Path)
    parser.add_argument("--directory", type=Path, default=Path(), help="where the pipeline has worked")
    options = parser.parse_args()
    labels = (
        acquired_labels(options.configfile, options.directory, options.cases)
        if options.configfile
        else phantom_labels(options.cases)
    )
    print("| data set | ROI | cases | voxels, mm | mean Dice | least |")
    print("|---|---|---|---|---|---|")
    for dataset, group in groupby(labels, key=lambda label: label[0]):
        found: dict[str, list[tuple[float, tuple[float, ...]]]] = defaultdict(list)
        for _, roi, mask, grid in group:
            if mask.any():
                found[roi].append((dice_after_the_round_trip(mask, grid), grid.canonical().spacing_mm))
        for roi, values in found.items():
            dice = [value for value, _ in values]
            spacing = "×".join(f"{side:.2f}" for side in np.median([sides for _, sides in values], axis=0))
            print(
                f"| {dataset} | {roi} | {len(dice)} | {spacing} | {np.mean(dice):.4f} | {min(dice):.4f} |", flush=True
            )


if __name__ == "__main__":
    main()
