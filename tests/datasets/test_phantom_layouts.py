"""Phantom data sets on disk: published layouts, read by the readers of the real data sets."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.labelling import Labelling
from pipeline_lib.config.layouts import Layout
from pipeline_lib.config.structures import structure_names
from pipeline_lib.datasets.phantom.generate import generate_case, generate_dataset
from pipeline_lib.datasets.readers import read_case
from pipeline_lib.errors import UserError
from pipeline_lib.files import read_json
from pipeline_lib.label_bits import read_roi_bits, roi_mask

from .phantoms import PARTIAL, ROIS, phantom_settings

COARSE = (12.0, 12.0, 12.0)


def generate(tmp_path, name, **settings):
    made = phantom_settings(name, cases=2, spacing=COARSE, **settings)
    raw, truth = tmp_path / "raw", tmp_path / "truth"
    generate_dataset(made, raw, truth)
    return made, raw, truth


@pytest.mark.parametrize("name", PARTIAL)
def test_labels_read_back_are_the_truth_of_the_labelled_rois(tmp_path, name):
    settings, raw, truth = generate(tmp_path, name)
    dataset = settings.dataset
    values = {0} | {value for of_roi in dataset.labels.values() for value in of_roi}
    for case in dataset.all_cases:
        read = read_case(dataset.layout, raw, case, ROIS, Labelling(labels=dataset.labels))
        bits, grid = read_roi_bits(truth / f"{case}.nii.gz")
        assert grid.size == read.image.GetSize()
        np.testing.assert_allclose(grid.spacing_mm, read.image.GetSpacing(), rtol=1e-5)
        np.testing.assert_allclose(grid.origin_mm, read.image.GetOrigin(), atol=1e-3)
        np.testing.assert_allclose(grid.direction, read.image.GetDirection(), atol=1e-5)
        assert set(read.labelled) == set(dataset.labels)
        for roi in read.labelled:
            mask = read.labels.mask(roi)
            np.testing.assert_array_equal(mask, roi_mask(bits, ROIS.index(roi)), err_msg=f"{case} {roi}")
        written = sitk.GetArrayFromImage(sitk.ReadImage(str(read.files.label_map)))
        assert set(np.unique(written)) <= values
        assert sitk.GetArrayFromImage(read.image).dtype == np.int16
    assert read_json(truth / "rois.json") == list(ROIS)


@pytest.mark.parametrize("name", ["phantom_liver", "phantom_kits", "phantom_total"])
def test_every_voxel_lies_where_it_did_in_the_patient(tmp_path, name):
    """Turned and flipped axes: the direction matrix must put each HU value back at its place."""
    settings, raw, _ = generate(tmp_path, name)
    dataset = settings.dataset
    case = dataset.all_cases[0]
    made = generate_case(settings, case)
    image = read_case(dataset.layout, raw, case, ("liver",), Labelling(labels=dataset.labels)).image
    upright = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    np.testing.assert_array_equal(upright, made.hu)
    if dataset.layout != "kits19":
        first = sitk.DICOMOrient(image, "LPS").GetOrigin()
        np.testing.assert_allclose(first, made.grid.origin, atol=1e-2)


def test_kits_axes_are_slice_row_column(tmp_path):
    """As in the published files: slices from the top down, rows to the back, columns to the left, origin at zero."""
    settings, raw, _ = generate(tmp_path, "phantom_kits")
    for file in ("imaging", "segmentation"):
        image = sitk.ReadImage(str(raw / "data" / "case_00000" / f"{file}.nii.gz"))
        np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3)), [[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
        np.testing.assert_allclose(image.GetOrigin(), 0)
        assert image.GetSize() == generate_case(settings, "case_00000").hu.shape


def test_orientation_differs_between_cases(tmp_path):
    made = phantom_settings("phantom_spleen", cases=8, spacing=(20.0, 20.0, 20.0))
    generate_dataset(made, tmp_path / "raw", tmp_path / "truth")
    directions = {sitk.ReadImage(str(path)).GetDirection() for path in (tmp_path / "raw" / "imagesTr").glob("*.nii.gz")}
    assert len(directions) >= 3


def test_msd_description_lists_cases_and_labels(tmp_path):
    _, raw, _ = generate(tmp_path, "phantom_liver")
    description = read_json(raw / "dataset.json")
    assert description["labels"] == {"0": "background", "1": "liver", "2": "liver+liver_tumor"}
    assert description["numTraining"] == len(description["training"]) == 2
    for entry in description["training"]:
        assert (raw / entry["image"]).is_file() and (raw / entry["label"]).is_file()
    assert {path.name for path in raw.iterdir()} == {"imagesTr", "labelsTr", "dataset.json"}


def test_nnunet_layout(tmp_path):
    liver = phantom_settings("phantom_liver", cases=1, spacing=COARSE)
    settings = liver.model_copy(update={"dataset": liver.dataset.model_copy(update={"layout": "nnunet"})})
    generate_dataset(settings, tmp_path / "raw", tmp_path / "truth")
    read = read_case("nnunet", tmp_path / "raw", "liver_000", ROIS, Labelling(labels=liver.dataset.labels))
    assert read.files.image.name == "liver_000_0000.nii.gz"
    bits, _ = read_roi_bits(tmp_path / "truth" / "liver_000.nii.gz")
    for roi in read.labelled:
        mask = read.labels.mask(roi)
        np.testing.assert_array_equal(mask, roi_mask(bits, ROIS.index(roi)))


def test_a_layout_of_ones_own(tmp_path):
    own = Layout(image="scans/{case}.mha", labels="{case}/labels.nrrd")
    liver = phantom_settings("phantom_liver", cases=1, spacing=COARSE)
    settings = liver.model_copy(update={"dataset": liver.dataset.model_copy(update={"layout": own})})
    generate_dataset(settings, tmp_path / "raw", tmp_path / "truth")
    read = read_case(own, tmp_path / "raw", "liver_000", ROIS, Labelling(labels=liver.dataset.labels))
    assert (read.files.image.suffix, read.files.label_map.suffix) == (".mha", ".nrrd")
    bits, _ = read_roi_bits(tmp_path / "truth" / "liver_000.nii.gz")
    for roi in read.labelled:
        mask = read.labels.mask(roi)
        np.testing.assert_array_equal(mask, roi_mask(bits, ROIS.index(roi)))


@pytest.mark.parametrize("layout", ["msd", "totalsegmentator_v1", Layout(image="scans/{case}.mha")], ids=str)
def test_a_data_set_without_labels_has_cts_alone(tmp_path, layout):
    liver = phantom_settings("phantom_liver", cases=1, spacing=COARSE)
    plain = liver.dataset.model_copy(update={"layout": layout, "labels": {}}).without_labels()
    generate_dataset(liver.model_copy(update={"dataset": plain}), tmp_path / "raw", tmp_path / "truth")
    (case,) = plain.all_cases
    files = [path for path in (tmp_path / "raw").rglob("*") if path.is_file() and path.name != "dataset.json"]
    read = read_case(layout, tmp_path / "raw", case, ROIS, plain.labelling(case))
    assert files == [read.files.image]
    assert read.labelled == ()


def test_totalsegmentator_layout_has_one_mask_per_structure(tmp_path):
    settings, raw, truth = generate(tmp_path, "phantom_total")
    structures = structure_names("totalsegmentator_v1")
    for case in settings.dataset.all_cases:
        files = {path.name for path in (raw / case / "segmentations").iterdir()}
        assert files == {f"{structure}.nii.gz" for structure in structures}
        read = read_case("totalsegmentator_v1", raw, case, structures)
        masks = {target: read.labels.mask(target) for target in read.labelled}
        assert sum(mask.any() for mask in masks.values()) > 25
        assert np.sum(list(masks.values()), axis=0).max() == 1
        bits, _ = read_roi_bits(truth / f"{case}.nii.gz")
        np.testing.assert_array_equal(roi_mask(bits, 0), masks["liver"])
        np.testing.assert_array_equal(roi_mask(bits, 2), masks["kidney_left"] | masks["kidney_right"])


def test_files_are_equal_byte_for_byte_whatever_else_is_made(tmp_path):
    def digests(cases, folder):
        settings = phantom_settings("phantom_hepatic_vessel", cases=cases, spacing=COARSE)
        generate_dataset(settings, tmp_path / folder, tmp_path / f"{folder}_truth")
        files = [*(tmp_path / folder).rglob("*_001.nii.gz"), tmp_path / f"{folder}_truth" / "hepatic_vessel_001.nii.gz"]
        return sorted((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files)

    assert digests(2, "first") == digests(3, "second")


def test_settings_that_no_phantom_can_meet(tmp_path):
    liver = phantom_settings("phantom_liver", cases=1)
    wrong = {
        "layout": liver.model_copy(
            update={"dataset": liver.dataset.model_copy(update={"layout": "totalsegmentator_v2"})}
        ),
        "gall": liver.model_copy(update={"rois": ("liver", "gall")}),
        "toe": liver.model_copy(update={"dataset": liver.dataset.model_copy(update={"labels": {"toe": (1,)}})}),
        "source.tumour": phantom_settings("phantom_liver", source={"tumour": "liver"}),
    }
    for named, settings in wrong.items():
        with pytest.raises(UserError, match=named):
            generate_dataset(settings, tmp_path / "raw", tmp_path / "truth")
    assert not (tmp_path / "raw").exists()
