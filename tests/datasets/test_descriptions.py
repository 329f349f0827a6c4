"""dataset.json: what of it is used, and what contradicts the data set's own file."""

import json

import pytest

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.datasets.descriptions import contradictions, file_ending
from pipeline_lib.errors import UserError

NNUNET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": [1, 2], "liver_tumor": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
MSD = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver", "2": "cancer"}}


def dataset(**changes) -> Dataset:
    content = {
        "name": "livers",
        "layout": "nnunet",
        "source": {"kind": "local", "path": "raw"},
        "labels": {"liver": (1, 2), "liver_tumor": (2,)},
        "cases": ("c",),
        "licence": "none",
    }
    return Dataset.model_validate(content | changes)


def wrong(folder, description, **changes) -> list[str]:
    (folder / "dataset.json").write_text(json.dumps(description))
    return [wrong for wrong, _ in contradictions(dataset(**changes), folder)]


@pytest.mark.parametrize("description", [NNUNET, MSD, {}, {"modality": "CT"}, {"name": "x"}])
@pytest.mark.parametrize("layout", ["nnunet", "msd"])
def test_descriptions_that_agree_have_no_finding(tmp_path, description, layout):
    assert wrong(tmp_path, description, layout=layout) == []


def test_names_of_parts_and_names_that_leave_the_roi_open_are_no_contradiction(tmp_path):
    labels = {"background": 0, "kidney_left": 1, "kidney_right": 2, "cancer": 3}
    kidney = {"kidney": (1, 2, 3), "kidney_tumor": (3,)}
    assert wrong(tmp_path, NNUNET | {"labels": labels}, labels=kidney) == []


def test_layouts_without_a_description_ignore_the_file(tmp_path):
    assert wrong(tmp_path, {"channel_names": {"0": "T1", "1": "T2"}}, layout="kits19") == []


@pytest.mark.parametrize("name", ["CT", "ct", "CT scan", "CT_windowed", "computed tomography"])
def test_names_of_ct_are_known(tmp_path, name):
    assert wrong(tmp_path, NNUNET | {"channel_names": {"0": name}}) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"channel_names": {"0": "CT", "1": "PET"}}, "has 2 channels (CT, PET)"),
        ({"channel_names": {"0": "T1"}}, "calls its channel 'T1', which is not CT"),
        ({"channel_names": {"0": "FACT"}}, "calls its channel 'FACT', which is not CT"),
        ({"channel_names": None, "modality": {"0": "MRI"}}, "calls its channel 'MRI', which is not CT"),
        (
            {"labels": {"background": 0, "liver": 2, "liver_tumor": 1}},
            "gives liver_tumor label value 1, but `labels` gives it 2",
        ),
        (
            {"labels": {"0": "background", "1": "Liver Tumour", "2": "liver"}},
            "gives liver_tumor label value 1, but `labels` gives it 2",
        ),
        (
            {"labels": {"background": 0, "Spleen": 1, "lesion": 2}},
            "calls label value 1 spleen, but `labels` gives it to liver",
        ),
        (
            {"labels": {"background": 0, "liver": 1}},
            "does not have label value 2, which `labels` gives to liver",
        ),
    ],
)
def test_contradictions_are_found(tmp_path, changes, expected):
    assert expected in wrong(tmp_path, NNUNET | changes)


def test_the_ignore_label_is_not_background(tmp_path):
    described = NNUNET | {"labels": NNUNET["labels"] | {"ignore": 3}}
    (found,) = wrong(tmp_path, described)
    assert found.startswith("ignores label value 3: unknown voxels")
    assert wrong(tmp_path, described, unknown_labels=(3,)) == []
    assert wrong(tmp_path, described, ignored_labels=(3,)) == []


@pytest.mark.parametrize(
    ("content", "ending"),
    [
        (None, ".nii.gz"),
        ({}, ".nii.gz"),
        ({"file_ending": None}, ".nii.gz"),
        ({"file_ending": ".nrrd"}, ".nrrd"),
        ({"file_ending": ".NII"}, ".NII"),
    ],
)
def test_the_ending_of_a_data_set_s_files(tmp_path, content, ending):
    if content is not None:
        (tmp_path / "dataset.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    assert file_ending(tmp_path) == ending


@pytest.mark.parametrize("content", ['{"a": 1,}', "[]", '{"file_ending": ".png"}', '{"file_ending": 3}'])
def test_a_description_that_cannot_be_used_is_one_line_and_one_finding(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json: ") as error:
        file_ending(tmp_path)
    assert "\n" not in str(error.value)
    if "ending" not in content:
        assert len(list(contradictions(dataset(), tmp_path))) == 1
