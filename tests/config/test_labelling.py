"""What a data set's file says about its labels: values or names, unknown voxels, and which case labels what."""

import pytest

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.loading import load_dataset
from pipeline_lib.errors import UserError
from tests.config.test_layouts import load, refusal

MASKS = {"layout": {"image": "{case}/ct.mha", "labels": "{case}/{structure}.mha"}}
NAMED = {**MASKS, "labels": {"cord": ["Spinal Cord"], "parotids": [["Parotid_L"], ["Parotid_R"]], "larynx": []}}
TWO = {"labels": {"liver": [1, 2], "liver_tumor": [2]}}


def test_every_form_of_labels_survives_a_settings_file(tmp_path):
    for changes in (NAMED, TWO, {**TWO, "unknown_labels": [7]}, {**NAMED, "labelled": {c: ["cord"] for c in "abc"}}):
        dataset = load(tmp_path, **changes)
        assert Dataset.model_validate_json(dataset.model_dump_json()) == dataset


def test_all_cases_label_everything_unless_the_data_set_says_otherwise(tmp_path):
    plain = load(tmp_path)
    assert plain.labelling("a").labelled == "all"
    assert not {"labelled", "unknown_labels"} & set(plain.model_dump(exclude_defaults=True))
    assert load(tmp_path, **NAMED, labelled="present").labelling("b").labelled == "present"


@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_a_table_says_what_each_case_labels(tmp_path, comma):
    rows = ["Liver Tumor,age,CASE,liver", "x,40,a,1", ",41,b,YES", "", "0,42,c", "1,43,elsewhere,1"]
    (tmp_path / "labelled.csv").write_text("\ufeff" + "\n".join(rows).replace(",", comma), encoding="utf-8")
    dataset = load(tmp_path, **TWO, labelled="labelled.csv")
    expected = {"a": "all", "b": ("liver",), "c": ()}
    assert {case: dataset.labelling(case).labelled for case in "abc"} == expected
    assert not dataset.labelling("b").labels_roi("liver_tumor")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("case,liver\na,1\nb,1\nc,1", "has no column liver_tumor (it has: case, liver)"),
        ("case,liver,liver_tumor\na,1,1\nb,1,1", "has no row of case c"),
        ("case,liver,liver_tumor\na,1,1\na,1,1\nb,1,1\nc,1,1", "line 3: lists case a again"),
        ("case,liver,liver_tumor\na,1,maybe\nb,1,1\nc,1,1", "line 2: liver_tumor is 'maybe'; write 1 where"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_in_a_line(tmp_path, rows, said):
    (tmp_path / "labelled.csv").write_text(rows)
    assert said in refusal(tmp_path, **TWO, labelled="labelled.csv")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labelled": "nowhere.csv"}, "there is no"),
        ({"labelled": "present"}, "a label map has all ROIs in one file: name a table"),
        ({"labelled": {"a": ["liver"], "b": []}}, "`labelled` does not say what case c labels"),
        ({"labelled": {"a": ["spleen"], "b": [], "c": []}}, "`labelled` names spleen"),
        ({"labels": {"liver": ["Liver"]}}, "gives liver names, but the layout has label maps"),
        ({"labels": {"liver": []}}, "gives liver no value"),
        ({"unknown_labels": [1]}, "gives liver 1, which `unknown_labels` leaves open"),
        ({"unknown_labels": {1: ["liver"]}}, "gives liver 1, which `unknown_labels` leaves open"),
        ({"unknown_labels": {9: ["spleen"]}}, "`unknown_labels` names spleen"),
        ({"unknown_labels": [9], "ignored_labels": [9]}, "9 is among both"),
        ({**MASKS, "labels": {"a": ["Cord"], "b": ["cord"]}}, "the name 'cord' belongs to a and b"),
        ({**MASKS, "labels": {"a": ["b"], "b": []}}, "the name 'b' belongs to a and b"),
        ({**MASKS, "labels": {}, "unknown_labels": [255]}, "but the layout has masks"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, said):
    assert said in refusal(tmp_path, **changes)


def test_a_value_may_be_unknown_for_one_roi_and_make_another(tmp_path):
    """A liver in which a voxel may be tumour or not."""
    labelling = load(tmp_path, labels={"liver": [1, 2, 3], "liver_tumor": [2]}, unknown_labels={3: ["liver_tumor"]})
    assert labelling.labelling("a").unknown_values("liver_tumor") == (3,)
    assert labelling.labelling("a").unknown_values("liver") == ()
    assert load(tmp_path, unknown_labels=[254, 255]).labelling("a").unknown_values("liver") == (254, 255)


def test_a_table_needs_the_names_of_the_cases(tmp_path):
    (tmp_path / "lab.yaml").write_text("name: lab\nlabels: {liver: [1]}\nlabelled: t.csv\n")
    (tmp_path / "t.csv").write_text("case,liver\n")
    with pytest.raises(UserError, match="names a table, which needs `labels` and `cases`"):
        load_dataset(str(tmp_path / "lab.yaml"), tmp_path)
