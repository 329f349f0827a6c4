"""Masks of single ROIs give the bits back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.errors import UserError
from pipeline_lib.geometry import Geometry
from pipeline_lib.label_bits import write_roi_bits
from pipeline_lib.nifti import Placement, read_placement
from pipeline_lib.tools.split_rois import split_rois

ROIS = ("liver", "liver_tumor", "kidney", "kidney_tumor", "spleen", "colon", "lung", "vessel", "pancreas")
GRID = Geometry(size=(4, 5, 6), spacing_mm=(1.0, 2.0, 3.0), origin_mm=(7.0, 8.0, 9.0))


@pytest.fixture
def prediction(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2 ** (len(ROIS) - 1), GRID.shape).astype(np.uint16)
    write_roi_bits(tmp_path / "case.nii.gz", bits, GRID, ROIS)
    return tmp_path / "case.nii.gz", bits


def test_overlapping_rois_come_apart_exactly(prediction, tmp_path):
    path, bits = prediction
    split_rois(path, tmp_path / "masks")
    files = [tmp_path / "masks" / f"{roi}.nii.gz" for roi in ROIS]
    assert sorted((tmp_path / "masks").iterdir()) == sorted(files)
    together = np.zeros_like(bits)
    for number, file in enumerate(files):
        image = sitk.ReadImage(str(file))
        mask = sitk.GetArrayFromImage(image)
        assert set(np.unique(mask)) <= {0, 1}
        assert Geometry.from_image(image) == GRID
        together |= mask.astype(np.uint16) << number
    assert np.array_equal(together, bits)


def test_masks_repeat_a_header_that_says_unusually_where_it_lies(tmp_path):
    placement = Placement(
        qform_code=2,
        sform_code=4,
        units=2,
        pixdim=(1.0, *GRID.spacing_mm),
        quaternion=(0.0, 0.0, 0.0, 70.0, 80.0, 90.0),
        sform=(-1.0, 0, 0, -7.0, 0, -2.0, 0, -8.0, 0, 0, 3.0, 9.0),
    )
    write_roi_bits(tmp_path / "case.nii.gz", np.ones(GRID.shape, np.uint8), GRID, ("liver",), placement)
    split_rois(tmp_path / "case.nii.gz", tmp_path / "masks")
    assert read_placement(tmp_path / "masks" / "liver.nii.gz") == placement


def test_the_command_writes_every_mask(prediction, tmp_path):
    command = [sys.executable, "-m", "pipeline_lib.tools.split_rois", str(prediction[0]), str(tmp_path / "masks")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "masks").iterdir())) == len(ROIS)


def test_a_missing_prediction_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"is missing|cannot be read"):
        split_rois(tmp_path / "nothing.nii.gz", tmp_path / "masks")
    assert not (tmp_path / "masks").exists()
