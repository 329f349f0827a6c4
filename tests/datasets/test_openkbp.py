"""OpenKBP's csv files become the image and the masks that they stand for, and of the three at hand the very same."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.openkbp import Patient, patients
from pipeline_lib.datasets.openkbp import ReadPatient, read_patient
from tests.support.openkbp import SIDE, VOXEL_SIDES_MM, ct_csv, git_blob_id, mask_csv, sides_csv

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "openkbp"
WHOLE = ((0, SIDE), (0, SIDE), (0, SIDE))
PAINTED = ("SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Brainstem", "Larynx", "Mandible")
"""Organs in the order in which they are painted into the label maps of the shared cases, later ones over earlier."""
ROIS = {
    "Brainstem": "brainstem",
    "SpinalCord": "spinal_cord",
    "RightParotid": "parotid_right",
    "LeftParotid": "parotid_left",
    "Esophagus": "esophagus",
    "Larynx": "larynx",
    "Mandible": "mandible",
}
"""Organ → its name in the shared cases, whose label values count from 1 in this order."""


def patient(kept=WHOLE, labelled: tuple[str, ...] = ()) -> Patient:
    return Patient("provided-data/train-pats/pt_1", kept, labelled, refused="", excluded="", blobs={})


def read(values: dict, kept=WHOLE, **masks: list) -> ReadPatient:
    files = {"ct.csv": ct_csv(values), "voxel_dimensions.csv": sides_csv()}
    files |= {f"{organ}.csv": mask_csv(places) for organ, places in masks.items()}
    return read_patient(patient(kept, tuple(masks)), files)


PLACES = {(0, 0, 0): 1, (5, 0, 0): 2, (0, 7, 0): 3, (0, 0, 11): 4, (127, 127, 127): 5, (90, 30, 100): 6}


def test_each_voxel_lies_where_its_index_says():
    hu = read(PLACES).hu
    for (posterior, left, inferior), value in PLACES.items():
        assert hu[SIDE - 1 - inferior, posterior, left] == value - 1000
    assert np.count_nonzero(hu != -1000) == len(PLACES)


def test_a_mask_lies_as_the_image_does():
    read_one = read(PLACES, Larynx=[*PLACES])
    assert np.array_equal(read_one.masks["Larynx"], read_one.hu != -1000)


def test_what_is_not_listed_is_air_and_metal_is_cut():
    hu = read({(1, 0, 0): 4094, (2, 0, 0): 4095, (3, 0, 0): 4096, (4, 0, 0): 30_000}).hu
    assert hu.dtype == np.int16
    assert hu[127, :6, 0].tolist() == [-1000, 3094, 3095, 3095, 3095, -1000]


def test_the_kept_part_stays_where_it_was():
    kept = ((20, 60), (80, 100), (30, 31))
    whole, part = read(PLACES, Larynx=[*PLACES]), read(PLACES, kept, Larynx=[*PLACES])
    assert np.array_equal(part.hu, whole.hu[20:60, 80:100, 30:31])
    assert np.array_equal(part.masks["Larynx"], whole.masks["Larynx"][20:60, 80:100, 30:31])
    posterior, left, inferior = VOXEL_SIDES_MM
    assert part.grid.spacing_mm == (left, posterior, inferior)
    assert part.grid.origin_mm == (30 * left, 80 * posterior, 20 * inferior)
    assert whole.grid.origin_mm == (0, 0, 0)


def test_a_contour_that_the_patient_does_not_label_is_not_read():
    files = {"ct.csv": ct_csv(PLACES), "voxel_dimensions.csv": sides_csv(), "Larynx.csv": mask_csv([(0, 0, 0)])}
    assert read_patient(patient(), files).masks == {}


needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="OpenKBP's cases are not beside the checkout")


@pytest.mark.shared
@needs_shared
@pytest.mark.parametrize("case", ["okbp_001", "okbp_002", "okbp_201"])
def test_the_kept_part_of_a_published_patient_is_the_converted_case_voxel_by_voxel(case):
    known = patients()[case]
    folder = SHARED / "raw" / Path(known.folder).relative_to("provided-data")
    files = {name: (folder / name).read_bytes() for name in known.blobs}
    assert {name: git_blob_id(content) for name, content in files.items()} == known.blobs
    done = read_patient(known, files)
    image = sitk.ReadImage(str(SHARED / "imagesTr" / f"{case}.nii.gz"))
    assert np.array_equal(done.hu, sitk.GetArrayFromImage(image))
    assert image.GetSize() == done.grid.size
    for ours, theirs in (
        (done.grid.spacing_mm, image.GetSpacing()),
        (done.grid.origin_mm, image.GetOrigin()),
        (done.grid.direction, image.GetDirection()),
    ):
        assert ours == pytest.approx(theirs, abs=1e-4)
    painted = np.zeros(done.hu.shape, np.uint8)
    for organ in PAINTED:
        if organ in done.masks:
            painted[done.masks[organ]] = list(ROIS).index(organ) + 1
    label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(SHARED / "labelsTr" / f"{case}.nii.gz")))
    assert np.array_equal(painted, label_map)


@pytest.mark.shared
@needs_shared
def test_the_table_says_of_every_case_what_the_converted_ones_are():
    with (SHARED / "cases.csv").open(encoding="utf-8", newline="") as file:
        cases = {row["case"]: row for row in csv.DictReader(file)}
    with (SHARED / "excluded.csv").open(encoding="utf-8", newline="") as file:
        excluded = {f"okbp_{int(row['patient'][3:]):03d}": row["reason"] for row in csv.DictReader(file)}
    table = patients()
    assert {case for case, known in table.items() if not known.excluded} == set(cases)
    assert {case: table[case].excluded for case in excluded} == excluded
    for case, row in cases.items():
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(SHARED / "imagesTr" / f"{case}.nii.gz"))
        reader.ReadImageInformation()
        first = np.rint(np.array(reader.GetOrigin()) / reader.GetSpacing()).astype(int)
        ranges = [(low, low + side) for low, side in zip(first.tolist(), reader.GetSize(), strict=True)]
        assert table[case].kept == tuple(reversed(ranges))
        assert [ROIS[organ] for organ in table[case].labelled] == row["rois"].split()
