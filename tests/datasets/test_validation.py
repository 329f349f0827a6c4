"""Every fault that validation knows, each in a data set that has it and nothing else."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.datasets import validation
from pipeline_lib.datasets.label_values import label_values
from pipeline_lib.datasets.readers import read_case
from pipeline_lib.datasets.validation import check_case, check_dataset, check_held_out, repeated_cases
from pipeline_lib.errors import UserError

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


def noted(raw, **changes):
    """(is it a note, what) of each finding."""
    return [(finding.is_note, finding.wrong) for finding in check_case(dataset(**changes), raw, "c", TARGETS).findings]


def test_a_case_without_a_labelled_voxel_is_a_note(raw):
    write(raw / "labelsTr/c.nii.gz", np.zeros(SHAPE, np.uint8))
    ((is_note, wrong),) = noted(raw)
    assert is_note
    assert "has no labelled voxel" in wrong


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (np.int8, (-128, 127)),
        (np.uint64, (2**64 - 1, 2**64 - 9)),
        (np.int64, (2**62, 2**62 - 3)),
        (np.int16, (-9, 900)),
    ],
)
def test_the_values_of_a_label_map_are_named_whatever_its_type(dtype, values):
    assert label_values(np.array(values, dtype).reshape(1, 1, 2)) == set(values)


@pytest.mark.parametrize("value", [1e30, -1e30, 3e9])
def test_a_huge_floating_point_label_is_one_finding_that_names_it(raw, value):
    labels = label_map().astype(np.float64)
    labels[0, 0, 0] = value
    write(raw / "labelsTr/c.nii.gz", labels)
    ((is_note, wrong),) = noted(raw)
    assert not is_note
    assert f"{value:g}" in wrong


def test_an_extreme_label_value_is_one_finding_that_names_it(raw):
    labels = label_map().astype(np.int64)
    labels[0, 0, 0], labels[0, 0, 1] = 2**62, -(2**62)
    write(raw / "labelsTr/c.nii.gz", labels)
    assert noted(raw) == [(False, f"holds label values that no ROI claims: {-(2**62)}, {2**62}")]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda labels: labels + np.where(labels == 1, 1e-7, 0), None),
        (lambda labels: labels * 1.0001, None),
        (lambda labels: labels - np.where(labels > 0, 9e-4, 0), None),
        (lambda labels: labels * 1.2, "not whole numbers: 1.2, 2.4"),
        (lambda labels: labels + np.where(labels == 1, 0.002, 0), "not whole numbers: 1.002"),
    ],
)
def test_label_values_within_rounding_of_whole_numbers_are_taken_and_others_are_told(raw, change, shown):
    write(raw / "labelsTr/c.nii.gz", change(label_map().astype(np.float64)))
    found = findings(raw)
    assert len(found) == (shown is not None)
    if shown is None:
        case = check_case(dataset(), raw, "c", TARGETS)
        assert case.present == ("liver", "liver_tumor")
    else:
        assert shown in found[0]
        assert "round it" in found[0]


def test_what_no_check_foresaw_becomes_a_finding_with_its_type(raw, monkeypatch):
    def explode(voxels):
        raise MemoryError("Unable to allocate 4.00 EiB")

    monkeypatch.setattr(validation, "unit_fault", explode)
    ((is_note, wrong),) = noted(raw)
    assert not is_note
    assert wrong == "cannot be checked (MemoryError: Unable to allocate 4.00 EiB)"


def test_a_missing_image_whose_files_lie_as_in_another_layout_says_which(raw):
    (found,) = findings(raw, layout="nnunet")
    assert "imagesTr/c_0000.nii.gz: is missing; its files lie as in the layout msd: correct `layout`" in found


def test_a_case_named_with_its_channel_says_how_to_name_it(tmp_path):
    write(tmp_path / "imagesTr/c_0000.nii.gz", hu())
    write(tmp_path / "labelsTr/c.nii.gz", label_map())
    lab = dataset(layout="nnunet", cases=("c_0000",))
    image = check_case(lab, tmp_path, "c_0000", TARGETS).findings[0]
    assert image.wrong == "is missing"
    assert image.remedy == "name the case without its channel, c"


SOFT = np.zeros(SHAPE)
SOFT[1:4, 1:4, 1:4] = 0.3
SOFT[2, 2, 1:5] = (0.5, 1.0, 0.7, 0.49)
MASKS = {
    "0 and 1": (SOFT >= 0.5, 1),
    "0 and 255": (np.where(SOFT >= 0.5, 255, 0), 1),
    "soft": (SOFT, 1),
    "soft, to 255": (SOFT * 255, 1),
    "a background of 1e-7": (np.where(SOFT >= 0.5, 1, 1e-7), 1),
    "a background of -1": (np.where(SOFT >= 0.5, 1, -1), 1),
    "nothing": (np.zeros(SHAPE), 0),
    "a hundredth": (SOFT / 100, None),
    "soft without a one": (SOFT * 0.9, None),
    "a label map": (np.where(SOFT >= 0.5, 7, 0), None),
    "1e-7 alone": (np.full(SHAPE, 1e-7), None),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_holds_the_voxels_of_at_least_half_its_value(tmp_path, name, dtype):
    values, expected = MASKS[name]
    if dtype is not np.float32 and not np.array_equal(values, values.astype(dtype)):
        pytest.skip("not of this type")
    total = {"name": "total", "layout": "totalsegmentator_v1", "labels": {}}
    write(tmp_path / "c/ct.nii.gz", hu())
    write(tmp_path / "c/segmentations/liver.nii.gz", values.astype(dtype))
    case = check_case(dataset(**total), tmp_path, "c", ("liver",))
    if expected is None:
        (finding,) = case.faults
        assert finding.wrong.startswith("is not a mask: its highest value is")
        with pytest.raises(UserError, match="is not a mask"):
            read_case("totalsegmentator_v1", tmp_path, "c", ("liver",)).labels.mask("liver")
        return
    assert case.faults == ()
    mask = read_case("totalsegmentator_v1", tmp_path, "c", ("liver",)).labels.mask("liver")
    assert mask.dtype == bool
    assert np.array_equal(mask, (SOFT >= 0.5) if expected else np.zeros(SHAPE, bool))


def checked_under(folder, datasets):
    """Every case of several data sets, each in a folder of its name."""
    return [check_case(one, folder / one.name, case, TARGETS) for one in datasets for case in one.used_cases]


def stored(path, array, axes, flips):
    """Write the same image in the same place with its axes in another order and sense."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 3.0))
    image = sitk.Flip(sitk.PermuteAxes(image, axes), flips, flipAboutOrigin=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize(("axes", "flips"), [((0, 1, 2), (True, True, False)), ((2, 1, 0), (True, False, False))])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("splits", [("train", "test"), ("train", "train"), ("test", "test")])
def test_the_same_patient_is_found_in_another_order_of_axes(tmp_path, axes, flips, dtype, splits):
    livers = dataset(name="livers", split={"c": splits[0]})
    spleens = dataset(name="spleens", labels={"spleen": (1, 2)}, split={"c": splits[1]})
    again = dataset(name="again", split={"c": splits[1]})
    for one in (livers, spleens, again):
        folder = tmp_path / one.name
        turned = ((0, 1, 2), (False,) * 3) if one is livers else (axes, flips)
        stored(folder / "imagesTr/c.nii.gz", hu().astype(np.int16 if one is livers else dtype), *turned)
        stored(folder / "labelsTr/c.nii.gz", label_map(), *turned)
    named = {one.name: one for one in (livers, spleens, again)}
    (other_rois,) = repeated_cases(checked_under(tmp_path, (livers, spleens)), named)
    (same_rois,) = repeated_cases(checked_under(tmp_path, (livers, again)), named)
    both = splits[0] != splits[1]
    assert other_rois.is_note == (not both)
    assert not same_rois.is_note
    assert other_rois.wrong.startswith("is in both splits" if both else "is there twice, with labels of other ROIs")
    assert same_rois.wrong.startswith("is in both splits" if both else "is there twice: the same image as livers c")
    assert same_rois.remedy == "list one of the two under `skip:`"


@pytest.mark.parametrize("split", ["train", "test"])
def test_of_an_image_that_one_of_two_data_sets_labels_the_other_copy_is_to_go(tmp_path, split):
    """The order in which they are checked does not matter."""
    livers = dataset(name="livers", split={"c": split})
    plain = dataset(name="plain", labels={}, split="all_training").without_labels()
    for one in (livers, plain):
        stored(tmp_path / one.name / "imagesTr/c.nii.gz", hu().astype(np.int16), (0, 1, 2), (False,) * 3)
    stored(tmp_path / "livers/labelsTr/c.nii.gz", label_map(), (0, 1, 2), (False,) * 3)
    checked = checked_under(tmp_path, (livers, plain))
    for order in (checked, checked[::-1]):
        (found,) = repeated_cases(order, {"livers": livers, "plain": plain})
        assert found.remedy == "list it under `skip:` of plain"
        assert found.is_note == (split == "train")


def of_dataset(raw, organs=(("liver_tumor", "liver"),), **changes):
    one = dataset(**changes)
    return [str(finding) for finding in check_dataset(one, raw, checked_cases(one, raw), dict(organs))]


def checked_cases(one, raw):
    return [check_case(one, raw, case, TARGETS) for case in one.used_cases]


def test_a_data_set_without_fault_has_no_findings(raw):
    assert of_dataset(raw) == []


def test_a_tumour_outside_the_organ_that_it_belongs_to_is_found(raw):
    (found,) = of_dataset(raw, labels={"liver": (1,), "liver_tumor": (2,)})
    assert found.startswith("livers: liver_tumor belongs to liver, but its label value 2 is not among those of liver")
    assert found.endswith("write liver: [1, 2]")
    assert of_dataset(raw, organs=(), labels={"liver": (1,), "liver_tumor": (2,)}) == []
    assert of_dataset(raw, labels={"liver_tumor": (2,)}, ignored_labels=(1,)) == []


def test_a_roi_that_no_case_holds_is_found(raw):
    (found,) = of_dataset(raw, labels={"liver": (1, 2), "liver_tumor": (2,), "spleen": (9,)})
    assert found == "livers: labels spleen, but no case holds a voxel of it; correct `labels`"


def test_a_label_that_cannot_be_read_does_not_make_its_rois_absent(raw):
    truncated(raw / "labelsTr/c.nii.gz")
    assert of_dataset(raw) == []


def test_a_description_that_contradicts_is_found(raw):
    (raw / "dataset.json").write_text('{"modality": {"0": "MRI"}}')
    (found,) = of_dataset(raw)
    assert found.startswith(f"{raw}/dataset.json: calls its channel 'MRI'")


@pytest.mark.parametrize(("held_out", "notes"), [(0, 1), (1, 1), (4, 1), (5, 0), (100, 0)])
def test_too_few_cases_to_judge_the_roi_aware_network_are_noted(held_out, notes):
    found = list(check_held_out(dataset(), held_out))
    assert len(found) == notes
    assert all(finding.is_note for finding in found)


def test_small_shear_and_a_missing_placement_are_notes(raw):
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    affine[0, 1] = 0.01
    for folder, array in (("imagesTr", hu()), ("labelsTr", label_map())):
        image = nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine)
        image.set_qform(None, 0)
        image.header["qform_code"] = 0
        nibabel.save(image, raw / folder / "c.nii.gz")
    ((is_note, wrong),) = noted(raw)
    assert is_note
    assert "not quite at right angles" in wrong


def test_a_case_with_half_of_a_roi_or_with_no_label_is_noted(tmp_path):
    masks = {"image": "{case}/ct.nii.gz", "labels": "{case}/{structure}.nii.gz"}
    kinds = {"layout": masks, "labels": {"lungs": (("Lung L",), ("Lung R",))}, "labelled": "present"}
    write(tmp_path / "c/ct.nii.gz", hu())
    write(tmp_path / "c/lung_l.nii.gz", label_map() // 2)
    case = check_case(dataset(**kinds), tmp_path, "c", ("lungs",))
    assert (case.faults, case.labelled, case.present) == ((), (), ())
    assert [finding.wrong for finding in case.findings] == [
        "labels no ROI; it counts as an unlabelled case",
        "has lung_l alone of lungs, which is unknown here",
    ]


def test_values_of_unknown_voxels_are_no_fault(raw):
    labels = label_map()
    labels[0, 0, 0] = 255
    write(raw / "labelsTr/c.nii.gz", labels)
    assert "holds label values that no ROI claims: 255" in findings(raw)[0]
    assert findings(raw, unknown_labels=(255,)) == []
