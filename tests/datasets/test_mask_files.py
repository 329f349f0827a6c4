"""One mask file for each ROI: which case labels what, by the files that are there and by a table."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_lib.config.labelling import Labelling
from pipeline_lib.config.layouts import Layout
from pipeline_lib.datasets.mask_files import find_masks
from pipeline_lib.datasets.readers import case_files, read_case
from pipeline_lib.errors import UserError
from tests.datasets.test_readers import SHAPE, write

LAYOUT = Layout(image="{case}/ct.nii.gz", labels="{case}/masks/{structure}.nii.gz")
LABELS = {"cord": ("Spinal Cord",), "parotids": (("Parotid_L",), ("Parotid_R",)), "larynx": ()}
TARGETS = ("brain", "cord", "larynx", "parotids")


def ball(*place):
    mask = np.zeros(SHAPE, np.uint8)
    mask[place] = 1
    return mask


@pytest.fixture
def root(tmp_path):
    """A case with its cord, half of its parotids, an empty larynx, and a mask of nothing that is wanted."""
    write(tmp_path / "c/ct.nii.gz", np.zeros(SHAPE, np.int16))
    for name, mask in (
        ("SPINAL_CORD", ball(1, 2, 3)),
        ("parotid l", ball(2, 2, 2)),
        ("Larynx", ball() * 0),
        ("Bolus", ball(0, 0, 0)),
    ):
        write(tmp_path / f"c/masks/{name}.nii.gz", mask)
    return tmp_path


def read(root, labelled):
    return read_case(LAYOUT, root, "c", TARGETS, Labelling(labels=LABELS, labelled=labelled))


def test_an_absent_mask_is_unknown_and_an_empty_one_says_absent(root):
    case = read(root, "present")
    assert case.labelled == ("cord", "larynx")
    assert np.array_equal(case.labels.mask("cord"), ball(1, 2, 3) > 0)
    assert not case.labels.mask("larynx").any()
    assert case.files.names.incomplete == {"parotids": ("parotid l",)}
    assert case.files.names.unmatched == ("Bolus",)


def test_a_roi_of_two_parts_is_both_together(root):
    write(root / "c/masks/Parotid-R.nii.gz", ball(3, 3, 3))
    case = read(root, "present")
    assert case.labelled == ("cord", "larynx", "parotids")
    assert np.array_equal(case.labels.mask("parotids"), (ball(2, 2, 2) | ball(3, 3, 3)) > 0)


def test_where_all_cases_label_all_an_absent_mask_is_a_fault(root):
    case = read(root, "all")
    assert case.labelled == ("cord", "larynx", "parotids")
    with pytest.raises(UserError, match=r"parotids\.nii\.gz: is missing; .* write `labelled: present`"):
        case.labels.mask("parotids")


def test_a_table_may_withhold_a_mask_that_is_there(root):
    assert read(root, ("larynx",)).labelled == ("larynx",)
    assert read(root, ()).labelled == ()
    with pytest.raises(UserError, match="is missing"):
        read(root, ("parotids",)).labels.mask("parotids")


def test_two_masks_of_one_roi_are_refused(root):
    write(root / "c/masks/cord.nii.gz", ball(1, 1, 1))
    with pytest.raises(UserError, match="has both 'SPINAL_CORD' and 'cord', which are names of cord"):
        read(root, "present")


def test_structures_without_names_may_be_absent_too(root):
    case = read_case(LAYOUT, root, "c", ("Larynx", "spleen"), Labelling(labelled="present"))
    assert case.labelled == ("Larynx",)


@pytest.mark.parametrize(
    ("template", "files"),
    [
        ("masks/{structure}/[c].nii.gz", {"cord": "masks/cord/[c].nii.gz"}),
        ("{structure}/[c]_{structure}.nii.gz", {"cord": "cord/[c]_cord.nii.gz"}),
        ("[c]_{structure}.nii.gz", {"cord": "[c]_cord.nii.gz"}),
    ],
)
def test_the_structure_may_stand_anywhere_in_the_path(tmp_path, template, files):
    for name in (*files.values(), "masks/cord/c.nii.gz", "cord/[c]_larynx.nii.gz", "d_cord.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = {"cord": (("cord",),)}
    found = find_masks(tmp_path, template, ("cord",), names, "present")
    assert found.masks == {roi: (tmp_path / file,) for roi, file in files.items()}


@settings(max_examples=30, deadline=None)
@given(
    present=st.sets(st.sampled_from(["cord", "larynx", "L", "R", "other"])),
    listed=st.none() | st.lists(st.sampled_from(["cord", "larynx", "parotids"]), unique=True),
    targets=st.permutations(TARGETS),
)
def test_what_a_case_labels_equals_a_naive_reference(tmp_path_factory, present, listed, targets):
    root: Path = tmp_path_factory.mktemp("case")
    spelt = {"cord": "Spinal cord", "larynx": "LARYNX", "L": "Parotid L", "R": "parotid_r", "other": "Skin"}
    for name in present:
        (root / "c/masks").mkdir(parents=True, exist_ok=True)
        (root / f"c/masks/{spelt[name]}.nii.gz").touch()
    labelled = "present" if listed is None else tuple(listed)
    files = case_files(LAYOUT, root, "c", tuple(targets), Labelling(labels=LABELS, labelled=labelled))
    needs = {"cord": {"cord"}, "larynx": {"larynx"}, "parotids": {"L", "R"}}
    expected = []
    for target in targets:
        wanted = target in needs and (needs[target] <= present if listed is None else target in listed)
        expected += [target] if wanted else []
    assert list(files.masks) == expected
    for target, paths in files.masks.items():
        if needs[target] <= present:
            assert {path.name for path in paths} == {f"{spelt[name]}.nii.gz" for name in needs[target]}
        else:
            assert [path.name for path in paths] == [f"{target}.nii.gz"]
