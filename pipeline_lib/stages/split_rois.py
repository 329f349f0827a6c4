"""Split a prediction into one mask per ROI, as TotalSegmentator writes them.

    python -m pipeline_lib.stages.split_rois results/predictions/RUN/DATASET/CASE.nii.gz FOLDER

FOLDER gets ROI.nii.gz for each ROI: 1 inside, 0 outside, on the prediction's grid. Not a stage of the pipeline: nothing
there needs it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import UserError
from ..files import whole_file
from ..volumes.bits import read_roi_bits, roi_mask, roi_names


def split_rois(prediction: Path, folder: Path) -> list[Path]:
    """Write one mask (uint8) per ROI into `folder`, an empty one too; raises UserError if `prediction` is none."""
    bits, grid = read_roi_bits(prediction)
    written = []
    for number, roi in enumerate(roi_names(prediction)):
        written.append(folder / f"{roi}.nii.gz")
        image = grid.image(roi_mask(bits, number).astype(np.uint8))
        with whole_file(written[-1]) as partial:
            sitk.WriteImage(image, str(partial), useCompression=True, imageIO="NiftiImageIO")
    return written


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prediction", type=Path, help="a file of ROI bits")
    parser.add_argument("folder", type=Path, help="folder for the masks")
    given = parser.parse_args()
    try:
        for path in split_rois(given.prediction, given.folder):
            print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
