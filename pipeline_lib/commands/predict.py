"""Segment a CT, or all CTs of a folder, with a trained model.

    lacuna predict ct.nii.gz -o out --model model.safetensors
    lacuna predict cts/ -o out --model model.safetensors --format labels masks --statistics --preview
    lacuna predict patient/ -o out --model model.safetensors --format dicom-seg rtstruct
    lacuna predict ct.nii.gz -o out --model seed0.safetensors seed1.safetensors seed2.safetensors

CT is a NIfTI, NRRD or MHA file in Hounsfield units, a folder or zip of a DICOM series, or a folder of all these. A
folder of several series is one CT if they are of one study: its only CT volume, or that of --series. Each CT gets a
folder OUT/CASE of results, on exactly its own grid:

    labels.nii.gz              --format labels: one value per voxel. A lesion is written over its organ; where two
                               organs claim a voxel, the more probable one has it. result.json has the values.
    masks/ROI.nii.gz           --format masks: one file of 0 and 1 per ROI. ROIs may overlap.
    bits.nii.gz, rois.json     --format bits: one bit per ROI, as the pipeline's predictions
    segmentation.dcm           --format dicom-seg: a DICOM-SEG with a segment per ROI. Needs a CT in DICOM.
    rtstruct.dcm               --format rtstruct: contours for planning systems. Needs a CT in DICOM.
    statistics.json, .csv      --statistics: volume, HU, extent, parts, whether the image cuts the ROI off, how certain
                               the network is of it, and from a calibrated model (`lacuna export`) its expected Dice
    preview.png                --preview: three slices with all ROIs
    probabilities/ROI.nii.gz   --probabilities: 0 to 1
    result.json                what was done, and by which models

All CTs of a folder are processed; failures are listed at the end, and the exit code is then not 0.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from .options import add_prediction_options

if TYPE_CHECKING:
    from ..prediction.batch import Job


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "ct", type=Path, metavar="CT", help="a CT (image file, DICOM folder or zip), or a folder of CTs"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder that gets a folder per CT")
    parser.add_argument(
        "-m", "--model", type=Path, nargs="+", required=True, help="model.safetensors; several are averaged"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        default=["labels"],
        choices=("labels", "masks", "bits", "dicom-seg", "rtstruct"),
        help="how masks are written (default: labels)",
    )
    parser.add_argument("--series", metavar="UID", help="which series to take, if DICOM files hold several CT volumes")
    parser.add_argument("--statistics", action="store_true", help="measure every ROI; for a folder also all in one csv")
    parser.add_argument("--preview", action="store_true", help="draw a picture of each CT's result")
    parser.add_argument("--probabilities", action="store_true", help="write the probability of every ROI too")
    parser.add_argument(
        "--existing",
        choices=("refuse", "skip", "overwrite"),
        default="refuse",
        help="what to do about a CT whose results are in OUT already (default: refuse)",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="windows side by side: up to eight times as fast, less exact where they meet",
    )
    add_prediction_options(parser)
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes a GPU if there is one"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="auto is the fastest here",
    )
    parser.add_argument(
        "--runtime",
        choices=("pytorch", "openvino"),
        default="pytorch",
        help="openvino (needs that package): faster on a CPU, after half a minute of converting",
    )
    parser.add_argument(
        "--allow-other-units", action="store_true", help="also take images that do not look like a CT in HU"
    )


def run(given: argparse.Namespace) -> int:
    from ..files import make_writable
    from ..prediction.ct import find_cases
    from ..stages.command import HUGE_PAGES

    # What is wrong with paths shows before torch is loaded.
    cases = find_cases(given.ct)
    make_writable(given.out, "name another folder with -o")
    os.environ.setdefault(HUGE_PAGES, "1")
    from ..prediction.batch import segment_all

    return segment_all(cases, _job(given))


def _job(given: argparse.Namespace) -> Job:
    from ..prediction.batch import Job
    from ..prediction.model import Options
    from ..prediction.output import Wanted

    options = Options(
        device=given.device,
        precision=given.precision,
        fast=given.fast,
        overlap=given.overlap,
        flip_tta=given.flip_tta,
        weights=given.weights,
        largest_part=tuple(given.largest_part),
        runtime=given.runtime,
    )
    wanted = Wanted(tuple(given.format), given.statistics, given.preview, given.probabilities)
    return Job(given.out, tuple(given.model), options, wanted, given.existing, given.allow_other_units, given.series)
