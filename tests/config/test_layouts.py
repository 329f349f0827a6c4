"""Layouts, published and of the user's own, and what a data set's file says about its cases."""

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from pipeline_lib.config.datasets import Dataset
from pipeline_lib.config.layouts import PUBLISHED, AnyLayout, Layout
from pipeline_lib.config.loading import load_dataset
from pipeline_lib.errors import UserError

OWN = {"image": "scans/{case}.nrrd", "labels": "seg/{case}.nrrd"}


def content(**changes) -> dict:
    return {
        "name": "lab",
        "layout": "nnunet",
        "source": {"kind": "local", "path": "/data/lab"},
        "labels": {"liver": [1]},
        "cases": ["a", "b", "c"],
        "licence": "internal",
    } | changes


def load(folder: Path, **changes) -> Dataset:
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump(content(**changes), allow_unicode=True), encoding="utf-8")
    return load_dataset(str(path), folder)


def refusal(folder: Path, **changes) -> str:
    with pytest.raises(UserError) as error:
        load(folder, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_published_name_is_in_the_table_and_is_kept_as_a_name_in_settings():
    for name in PUBLISHED:
        layout = TypeAdapter(AnyLayout).validate_python(name)
        assert layout == name
        assert TypeAdapter(AnyLayout).dump_json(layout) == f'"{name}"'.encode()


def test_a_layout_of_ones_own_survives_a_settings_file(tmp_path):
    dataset = load(tmp_path, layout=OWN)
    assert dataset.layout == Layout(**OWN)
    assert not dataset.layout.has_masks
    assert Dataset.model_validate_json(dataset.model_dump_json()) == dataset


def test_a_layout_with_structures_needs_no_label_values(tmp_path):
    masks = {"image": "{case}/ct.mha", "labels": "{case}/{structure}.mha"}
    assert load(tmp_path, layout=masks, labels={}).layout.has_masks
    assert "the layout has a mask for each ROI: give names" in refusal(tmp_path, layout=masks)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("mds", "unknown layout 'mds'; choose from msd"),
        (["msd"], "unknown layout"),
        (OWN | {"image": "ct.nrrd"}, "put {case} into it"),
        (OWN | {"image": "{case}/{structure}.nrrd"}, "{structure} has no meaning here"),
        (OWN | {"labels": "{case}/{roi}.nrrd"}, "{roi} has no meaning here"),
        (OWN | {"labels": "{case}/{.nrrd"}, "is not a template"),
        (OWN | {"labels": "{case!r}.nrrd"}, "plain names in braces only"),
        (OWN | {"labels": "{case.__class__}.nrrd"}, "has no meaning here"),
        (OWN | {"labels": "{}.nrrd"}, "has no meaning here"),
        (OWN | {"labels": "../{case}.nrrd"}, "leaves the data set's folder"),
        (OWN | {"labels": "/data/{case}.nrrd"}, "leaves the data set's folder"),
        (OWN | {"labels": "{case}.dcm"}, "must end in one of .nii.gz"),
        (OWN | {"labels": OWN["image"]}, "are both"),
        (OWN | {"mask": "{case}.nrrd"}, "mask"),
        ({"image": OWN["image"]}, "labels"),
    ],
)
def test_a_layout_that_cannot_work_is_refused_in_one_line(tmp_path, layout, expected):
    message = refusal(tmp_path, layout=layout)
    assert expected in message
    assert message.startswith(str(tmp_path / "lab.yaml"))


@pytest.mark.parametrize("name", ["a/b", "../x", "..", "{", "a}b", "", " ", "back\\slash", "tab\there"])
def test_case_names_that_would_leave_the_folder_or_break_a_wildcard_are_refused(tmp_path, name):
    assert "name" in refusal(tmp_path, cases=["a", name])
    assert "name" in refusal(tmp_path, skip=[{"case": name, "reason": "torn"}])


@pytest.mark.parametrize("name", ["Case 1", "1.3.6.1.4.1", "pat(3)", "grün_5", "患者6", "hash#1", "x$HOME9"])
def test_unusual_case_names_are_taken(tmp_path, name):
    assert name in load(tmp_path, cases=["a", name]).all_cases


class TestListsOfCases:
    def cases(self, folder, text: bytes) -> tuple[str, ...]:
        (folder / "names.txt").write_bytes(text)
        return load(folder, cases="names.txt").all_cases

    def test_a_name_may_hold_blanks_and_lines_may_be_blank_or_comments(self, tmp_path):
        text = "# my cases\n\nCase 1\n  case 1\t\nhash#1\n\n"
        assert self.cases(tmp_path, text.encode()) == ("Case 1", "case 1", "hash#1")

    def test_byte_order_marks_and_windows_line_ends_do_not_count(self, tmp_path):
        assert self.cases(tmp_path, "\ufeffplain\r\ngrün\r\n".encode()) == ("plain", "grün")

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
    def test_other_encodings_are_named(self, tmp_path, encoding):
        with pytest.raises(UserError, match=r"names\.txt: is not UTF-8 text; save it as UTF-8"):
            self.cases(tmp_path, "plain\ngrün_5\n".encode(encoding))


class TestSplit:
    @pytest.mark.parametrize(
        "split",
        [
            {"train": ["a", "b"], "test": ["c"]},
            {"test": ["c"]},
            {"train": ["a", "b"]},
            {"a": "train", "b": "train", "c": "test"},
        ],
    )
    def test_all_natural_spellings_mean_the_same(self, tmp_path, split):
        dataset = load(tmp_path, split=split)
        assert dataset.split_cases("train") == ("a", "b")
        assert dataset.split_cases("test") == ("c",)

    def test_lists_and_a_text_file_of_cases_go_together(self, tmp_path):
        (tmp_path / "names.txt").write_text("a\nb\nc\n")
        assert load(tmp_path, cases="names.txt", split={"test": ["a"]}).split_cases("train") == ("b", "c")

    @pytest.mark.parametrize(
        ("split", "expected"),
        [
            ("every_sixth", "write every_fifth, all_training, {train: [case_1"),
            ({"training": ["a", "b"], "test": ["c"]}, "write every_fifth"),
            ({"train": "a", "test": ["c"]}, "write every_fifth"),
            ({"a": "train", "b": "validation", "c": "test"}, "write every_fifth"),
            (["a"], "write every_fifth"),
            ({"train": ["a", "b"], "test": ["b", "c"]}, "lists b under both"),
            ({"train": ["a"], "test": ["c"]}, "disagree about b"),
        ],
    )
    def test_others_get_an_example(self, tmp_path, split, expected):
        assert expected in refusal(tmp_path, split=split)
