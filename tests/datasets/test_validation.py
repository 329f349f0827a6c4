"""Every fault that validation knows, each in a data set that has it and nothing else."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.datasets.validation import check_case, repeated_cases

SHAPE = (6, 7, 8)
TARGETS = ("liver", "liver_tumor", "spleen")


def write(path, array, spacing=(1.0, 1.0, 3.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def hu(seed=0):
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def label_map():
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[2, 2, 2] = 2
    return labels


def dataset(**changes) -> Dataset:
    content = {
        "name": "livers",
        "layout": "msd",
        "source": {"kind": "local", "path": "raw"},
        "labels": {"liver": (1, 2), "liver_tumor": (2,)},
        "cases": ("c",),
        "licence": "none",
    }
    return Dataset.model_validate(content | changes)


@pytest.fixture
def raw(tmp_path):
    """An MSD data set of one good case c."""
    write(tmp_path / "imagesTr/c.nii.gz", hu())
    write(tmp_path / "labelsTr/c.nii.gz", label_map())
    return tmp_path


def findings(raw, **changes):
    return [str(finding) for finding in check_case(dataset(**changes), raw, "c", TARGETS).findings]


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def nan(path):
    voxels = hu().astype(np.float32)
    voxels[1, 2, 3] = np.nan
    write(path, voxels)


def sheared(path):
    affine = np.eye(4)
    affine[0, 1] = 0.2
    nibabel.save(nibabel.Nifti1Image(hu(), affine), path)


def zero_spacing(path):
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[88:92] = np.float32(0).tobytes()
    path.write_bytes(gzip.compress(content))


def four_dimensions(path):
    nibabel.save(nibabel.Nifti1Image(np.stack([hu(), hu()], axis=-1), np.eye(4)), path)


def constant(path):
    write(path, np.full(SHAPE, -1024, np.int16))


def absurd_spacing(path):
    write(path, hu(), spacing=(0.7, 0.7, 700.0))


IMAGE_FAULTS = {
    "truncated gzip": (truncated, "is cut off"),
    "NaN": (nan, "holds NaN"),
    "sheared direction": (sheared, "has sheared axes"),
    "zero spacing": (zero_spacing, "has a spacing of 1×1×0 mm"),
    "4-D": (four_dimensions, "is not one 3-D image (6×7×8×2)"),
    "constant": (constant, "is constant (-1024 everywhere)"),
    "absurd spacing": (absurd_spacing, "has an absurd spacing of 0.7×0.7×700 mm"),
}


def test_a_good_case_has_no_findings(raw):
    assert findings(raw) == []


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_faulty_image_is_one_line(raw, fault):
    break_it, wrong = IMAGE_FAULTS[fault]
    image = raw / "imagesTr/c.nii.gz"
    break_it(image)
    if fault == "absurd spacing":
        write(raw / "labelsTr/c.nii.gz", label_map(), spacing=(0.7, 0.7, 700.0))
    found = findings(raw)
    assert len(found) == 1
    assert found[0].startswith(f"{image}: {wrong}")


def test_a_missing_image_does_not_hide_its_label_s_fault(raw):
    (raw / "imagesTr/c.nii.gz").unlink()
    truncated(raw / "labelsTr/c.nii.gz")
    found = findings(raw)
    assert [line.split(": ")[1].split(";")[0] for line in found] == ["is missing", "is cut off"]


LABEL_FAULTS = {
    "missing": (lambda path: path.unlink(), "is missing"),
    "truncated gzip": (truncated, "is cut off"),
    "another size": (lambda path: write(path, label_map()[1:]), "is not on the grid of c.nii.gz: 8×7×5 voxels"),
    "another spacing": (
        lambda path: write(path, label_map(), (1.0, 1.0, 4.0)),
        "is not on the grid of c.nii.gz: corners",
    ),
    "unclaimed value": (lambda path: write(path, label_map() * 3), "holds label values that no ROI claims: 3, 6"),
    "4-D": (four_dimensions, "is not one 3-D image"),
    "NaN": (nan, "holds NaN"),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_a_faulty_label_is_one_line(raw, fault):
    break_it, wrong = LABEL_FAULTS[fault]
    label = raw / "labelsTr/c.nii.gz"
    break_it(label)
    found = findings(raw)
    assert len(found) == 1
    assert found[0].startswith(f"{label}: {wrong}")


def test_masks_per_structure(tmp_path):
    total = {"name": "total", "layout": "totalsegmentator_v1", "labels": {}}
    write(tmp_path / "c/ct.nii.gz", hu())
    for target in TARGETS[:2]:
        write(tmp_path / f"c/segmentations/{target}.nii.gz", np.zeros(SHAPE, np.uint8))
    (missing,) = findings(tmp_path, **total)
    assert missing.startswith(f"{tmp_path}/c/segmentations/spleen.nii.gz: is missing")
    write(tmp_path / "c/segmentations/spleen.nii.gz", np.zeros(SHAPE, np.uint8))
    (empty,) = findings(tmp_path, **total)
    assert empty.startswith(f"{tmp_path}/c/ct.nii.gz: note: has only empty masks")
    write(tmp_path / "c/segmentations/spleen.nii.gz", label_map().clip(0, 1))
    assert findings(tmp_path, **total) == []


def test_the_same_image_under_two_names_is_found_within_and_across_the_splits(tmp_path):
    names = ("c_0", "c_1", "c_2", "c_3")  # c_0 is for testing
    livers = dataset(cases=names)
    for name, seed in zip(names, (1, 2, 1, 2), strict=True):
        write(tmp_path / f"imagesTr/{name}.nii.gz", hu(seed))
        write(tmp_path / f"labelsTr/{name}.nii.gz", label_map())
    checked = [check_case(livers, tmp_path, name, TARGETS) for name in names]
    assert not any(case.findings for case in checked)
    assert [(finding.file.name, finding.wrong) for finding in repeated_cases(checked, {"livers": livers})] == [
        ("c_2.nii.gz", "is in both splits: the same image as livers c_0, which is for test"),
        ("c_3.nii.gz", "is there twice: the same image as livers c_1"),
    ]


def test_images_that_cannot_be_read_are_not_taken_for_repetitions(tmp_path):
    livers = dataset(cases=("c_0", "c_1"))
    checked = [check_case(livers, tmp_path, name, TARGETS) for name in ("c_0", "c_1")]
    assert list(repeated_cases(checked, {"livers": livers})) == []
