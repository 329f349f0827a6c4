"""Split a file of ROI bits (a prediction, or a phantom's truth) into one mask per ROI, as TotalSegmentator writes them.

    python -m pipeline_lib.tools.split_rois results/predictions/RUN/DATASET/CASE.nii.gz masks/CASE

writes masks/CASE/liver.nii.gz, masks/CASE/liver_tumor.nii.gz, … (uint8, 0 and 1, on the same grid), empty ones too. No
rule runs it: it is for programs that do not read bits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..label_bits import read_roi_bits, roi_mask, roi_names
from ..nifti import read_placement
from ..nifti_writer import write_nifti
from ..progress import Progress, say


def split_rois(bits_file: Path, folder: Path) -> None:
    """Write `folder`/ROI.nii.gz for each ROI that `rois.json` beside `bits_file` names.

    Raises UserError if the file or the names of its ROIs cannot be read.
    """
    names = roi_names(bits_file)
    bits, grid = read_roi_bits(bits_file)
    placement = read_placement(bits_file)
    progress = Progress("split_rois", len(names), "ROI")
    for roi, name in enumerate(names):
        write_nifti(folder / f"{name}.nii.gz", roi_mask(bits, roi).astype(np.uint8), grid, placement)
        progress.advance(note=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bits", type=Path, help="NIfTI file of ROI bits, with rois.json beside it")
    parser.add_argument("folder", type=Path, help="folder that gets one mask per ROI")
    given = parser.parse_args()
    try:
        split_rois(given.bits, given.folder)
    except UserError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
